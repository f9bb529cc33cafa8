#include "arbiter/decide.h"

#define LEAST_TURN_NS 2000000u /* shorter turns cost more in draining than they give in smoothness */
#define BURST_NS 4000000u      /* budget an idle tenant may save up */
#define TRIM_LEAST 500u
#define TRIM_MOST 3000u

static bool before(const struct kerf_candidate *a, const struct kerf_candidate *b)
{
    if (a->priority != b->priority)
        return a->priority < b->priority;
    if (a->vtime != b->vtime)
        return a->vtime < b->vtime;
    return a->member < b->member;
}

int kerf_decide_next(const struct kerf_candidate *candidates, int count)
{
    int best = -1;
    for (int i = 0; i < count; i++)
        if (best < 0 || before(&candidates[i], &candidates[best]))
            best = i;
    return best;
}

uint64_t kerf_decide_quantum(uint64_t round_ns, uint32_t weight, uint32_t total_weight)
{
    uint64_t part = round_ns * weight / (total_weight ? total_weight : 1);
    return part > LEAST_TURN_NS ? part : LEAST_TURN_NS;
}

static uint64_t round_vtime(uint64_t round_ns, uint32_t total_weight)
{
    return round_ns * KERF_UNIT / (total_weight ? total_weight : 1);
}

bool kerf_decide_yield(const struct kerf_turn *turn, const struct kerf_candidate *other)
{
    if (turn->idle || turn->out_of_budget || other->priority < turn->priority)
        return true;
    if (other->priority > turn->priority)
        return false;
    if (turn->held_ns >= turn->quantum_ns)
        return other->vtime < turn->vtime;
    /* Someone who came back and is far behind need not wait for the whole turn. */
    return turn->held_ns >= LEAST_TURN_NS && other->vtime + round_vtime(turn->round_ns, turn->total_weight) < turn->vtime;
}

int64_t kerf_decide_budget(uint32_t cap_percent, uint32_t trim_permille, uint64_t elapsed_ns, uint64_t spent_ns)
{
    uint64_t allowed = elapsed_ns / 1000 * cap_percent * trim_permille / 100;
    return (int64_t)(allowed - spent_ns);
}

uint64_t kerf_decide_elapsed(uint32_t cap_percent, uint32_t trim_permille, uint64_t spent_ns)
{
    uint64_t share = (uint64_t)cap_percent * trim_permille;
    return share ? (spent_ns + BURST_NS) / share * 100000 : UINT64_MAX;
}

uint64_t kerf_decide_cost(uint64_t known, uint64_t sample)
{
    if (!sample)
        return known;
    if (!known)
        return sample;
    return known + sample / 4 - known / 4 ? known + sample / 4 - known / 4 : 1;
}

uint32_t kerf_decide_trim(uint32_t trim_permille, uint32_t target_permille, uint32_t measured_permille)
{
    if (!target_permille || !measured_permille)
        return trim_permille;
    int64_t error = (int64_t)target_permille - (int64_t)measured_permille;
    int64_t next = (int64_t)trim_permille + (int64_t)trim_permille * error / (int64_t)target_permille / 4;
    return next < TRIM_LEAST ? TRIM_LEAST : next > TRIM_MOST ? TRIM_MOST : (uint32_t)next;
}

uint64_t kerf_decide_wake(uint64_t vtime, uint64_t vclock, uint64_t round_ns, uint32_t total_weight)
{
    uint64_t credit = round_vtime(round_ns, total_weight);
    uint64_t floor = vclock > credit ? vclock - credit : 0;
    return vtime > floor ? vtime : floor;
}

uint32_t kerf_decide_weight(uint32_t own, uint32_t others)
{
    if (own)
        return own;
    return others < 99 ? 100 - others : 1;
}
