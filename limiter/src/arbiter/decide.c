#include "arbiter/decide.h"

#define SLACK_NS 4000000u       /* how far ahead of a hungry container another may be before it waits */
#define CLAIM_NS 30000000u      /* the claim that a container keeps after it was served less than its share */
#define SAFE_PERCENT 80u     /* of a step: launches that end by then delay nobody */
#define IDLE_NS 2000000u        /* without work in flight for so long: between requests, not between launches */
#define STEP_LEAST_NS 500000u   /* steps shorter than this have no safe part */
#define BUDGET_LEAST_NS 300000  /* a cap's budget opens the gate again from here on */
#define LEASE_LEAST_NS 5000000u /* shorter turns cost more in switching than they give in smoothness */
#define HUNGRY_FOR_NS 2000000u  /* a process stays hungry for so long after it was seen to be */
#define EVENT_NS 500u     /* times of events are no finer */
#define HOST_MOST_NS 8000u /* longer launch calls do more than launch, or wait for the kernel (CUDA_LAUNCH_BLOCKING) */
#define SCALE_LEAST 300u
#define SCALE_MOST 1500u

static const struct kerf_verdict open_wide = { KERF_NO_BOUND, -1, KERF_WHY_OPEN };

static struct kerf_verdict wait_for(int peer, enum kerf_why why)
{
    return (struct kerf_verdict){ 0, peer, why };
}

/*
 * How far a container may launch without delaying `peer`. The part of a step in which the peer's host
 * only prepares launches is safe: what runs then is over before the peer waits for its results.
 */
static uint64_t safe_depth(const struct kerf_self *self, const struct kerf_peer *peer)
{
    uint64_t since = self->now - peer->synced_ns;
    if (peer->blocked)
        return 0;
    if (!peer->in_flight_ns && peer->active_ns + IDLE_NS < self->now)
        return KERF_DEPTH_NS;
    if (peer->synced_ns && peer->step_ns >= STEP_LEAST_NS && since < 4 * peer->step_ns) {
        uint64_t safe = peer->step_ns * SAFE_PERCENT / 100, taken = since + self->launch_ns;
        if (safe > taken)
            return safe - taken;
        /* A launch about as long as the step goes first thing in it, or it would never go. */
        return since < peer->step_ns / 5 ? 1 : 0;
    }
    return peer->in_flight_ns ? 0 : 1;
}

static bool ahead_of(const struct kerf_self *self, const struct kerf_peer *peer)
{
    uint64_t slack = self->held ? 0 : (uint64_t)SLACK_NS * KERF_UNIT / (self->weight ? self->weight : 1);
    return self->vtime > peer->vtime + slack;
}

static bool stalled(const struct kerf_self *self, const struct kerf_peer *peer)
{
    return peer->moved_ns + KERF_STALL_NS < self->now;
}

static struct kerf_verdict against(const struct kerf_self *self, const struct kerf_peer *peer, int index)
{
    struct kerf_verdict verdict = { KERF_DEPTH_NS, -1, KERF_WHY_OPEN };
    bool outranked = peer->priority < self->priority;
    if (stalled(self, peer) || peer->priority > self->priority)
        return verdict;
    if (!outranked && self->gang && peer->gang)
        return verdict;
    if (outranked && peer->hungry)
        return wait_for(index, KERF_WHY_PRIORITY);
    if (!outranked && peer->hungry)
        return (self->hungry || self->balance_ns < 0) && ahead_of(self, peer) ? wait_for(index, KERF_WHY_AHEAD) : verdict;
    if (!outranked && (self->balance_ns >= 0 || peer->balance_ns < 0))
        return verdict;
    uint64_t depth = safe_depth(self, peer);
    if (depth < verdict.depth_ns)
        verdict = (struct kerf_verdict){ depth, index, outranked ? KERF_WHY_PRIORITY : KERF_WHY_STEP };
    return verdict;
}

static bool out_of_budget(const struct kerf_self *self)
{
    int64_t left = self->balance_ns - (int64_t)self->in_flight_ns;
    return self->capped && (self->held ? left < BUDGET_LEAST_NS : left <= 0);
}

struct kerf_verdict kerf_decide_gate(const struct kerf_self *self, const struct kerf_peer *peers, int count)
{
    struct kerf_verdict verdict = open_wide;
    if (self->outside)
        return wait_for(-1, KERF_WHY_SEAT);
    if (out_of_budget(self))
        return wait_for(-1, KERF_WHY_CAP);
    if (self->capped)
        verdict.depth_ns = (uint64_t)self->balance_ns;
    if (self->unseen)
        verdict = (struct kerf_verdict){ 1, -1, KERF_WHY_SEAT };
    for (int i = 0; i < count; i++) {
        struct kerf_verdict one = against(self, &peers[i], i);
        if (one.depth_ns < verdict.depth_ns)
            verdict = one;
    }
    return verdict;
}

struct kerf_rest kerf_decide_rest(const struct kerf_self *self, int others, int streams)
{
    struct kerf_rest look = { KERF_LOOK_NS, KERF_NO_BOUND };
    int64_t left = self->balance_ns - (int64_t)self->in_flight_ns;
    if (others || self->gang || self->unseen)
        return look;
    if (!self->capped)
        return (struct kerf_rest){ KERF_REST_NS, KERF_NO_BOUND };
    if (left <= 0)
        return look;
    uint64_t own = (uint64_t)left / (self->processes ? self->processes : 1);
    if (own / 4 <= KERF_LOOK_NS)
        return look;
    return (struct kerf_rest){ own / 4 < KERF_REST_NS ? own / 4 : KERF_REST_NS, own / 2 / (uint64_t)(streams > 0 ? streams : 1) };
}

struct kerf_hunger kerf_decide_hunger(const struct kerf_wish *wish)
{
    bool kept = wish->waiting && !wish->capped;
    uint64_t until = kept || wish->in_flight_ns >= KERF_HUNGRY_NS ? wish->now + HUNGRY_FOR_NS : wish->hungry_until;
    bool wants = wish->in_flight_ns || wish->waiting || wish->entering;
    return (struct kerf_hunger){ wants, wish->now < until, until };
}

int64_t kerf_decide_refill(int64_t balance, uint64_t elapsed, uint32_t share_permille, int64_t most, int64_t least)
{
    uint64_t span = elapsed < 10000000000u ? elapsed : 10000000000u;
    int64_t next = balance + (int64_t)(span * share_permille / 1000);
    if (next > most)
        next = balance > most ? balance : most;
    return next < least ? least : next;
}

uint64_t kerf_decide_claim(uint64_t vtime, uint64_t vclock, uint32_t weight)
{
    uint64_t claim = (uint64_t)CLAIM_NS * KERF_UNIT / (weight ? weight : 1);
    uint64_t floor = vclock > claim ? vclock - claim : 0;
    return vtime > floor ? vtime : floor;
}

uint64_t kerf_decide_cost(uint64_t known, uint64_t sample, bool trusted)
{
    if (!sample || !known)
        return known ? known : sample;
    if (sample <= known) {
        uint64_t drop = known - sample < known / 2 ? (known - sample) / 2 : known / 4;
        return known > drop ? known - drop : 1;
    }
    if (!trusted)
        return known;
    uint64_t rise = (sample - known) / 16, most = known / 128 + 1;
    return known + (rise < most ? rise : most);
}

struct kerf_sample kerf_decide_from_rest(const struct kerf_rested *launch)
{
    uint64_t off = launch->host_ns < launch->usual_ns ? launch->host_ns : launch->usual_ns;
    off = off < HOST_MOST_NS ? off : HOST_MOST_NS;
    off = off > EVENT_NS ? off - EVENT_NS : 0;
    uint64_t least = launch->measured_ns / 4, most_off = launch->measured_ns - least;
    bool undisturbed = off && launch->host_ns <= launch->usual_ns + launch->usual_ns / 4;
    return (struct kerf_sample){ launch->measured_ns - (off < most_off ? off : most_off), undisturbed };
}

uint64_t kerf_decide_usual(uint64_t known, uint64_t sample)
{
    uint64_t risen = known + known / 64 + 1;
    return !known || sample < risen ? sample : risen;
}

uint64_t kerf_decide_stretch(struct kerf_sampler *sampler, bool whole, uint64_t mean, uint64_t least)
{
    sampler->next = whole && !sampler->next && least < mean;
    if (sampler->next)
        return 1;
    sampler->dice = sampler->dice * 6364136223846793005u + 1442695040888963407u;
    uint64_t thrown = 1 + (sampler->dice >> 48) * mean / 32768;
    return thrown > least ? thrown : least;
}

struct kerf_counted kerf_decide_counted(double used, double measured, double room)
{
    double most = room < measured ? room : measured;
    most = most > 0 ? most : 0;
    double counted = used < most ? used : most;
    counted = counted > 0 ? counted : 0;
    return (struct kerf_counted){ counted, most - counted };
}

uint32_t kerf_decide_scale(uint32_t scale, uint32_t charged_permille, uint32_t measured_permille)
{
    if (charged_permille < 100 || !measured_permille)
        return scale;
    int64_t error = (int64_t)measured_permille - (int64_t)charged_permille;
    if (error >= -20 && error <= 20)
        return scale; /* NVML's figure is no finer */
    int64_t next = (int64_t)scale + (int64_t)scale * error / (int64_t)charged_permille / 4;
    return next < SCALE_LEAST ? SCALE_LEAST : next > SCALE_MOST ? SCALE_MOST : (uint32_t)next;
}

uint64_t kerf_decide_step(uint64_t known, uint64_t sample)
{
    if (!known)
        return sample;
    return sample < known ? known - (known - sample) / 4 : known + ((sample - known) / 16 < known / 8 ? (sample - known) / 16 : known / 8);
}

uint32_t kerf_decide_weight(uint32_t own, uint32_t others)
{
    if (own)
        return own;
    return others < 99 ? 100 - others : 1;
}

static bool before(const struct kerf_candidate *a, const struct kerf_candidate *b)
{
    if (a->priority != b->priority)
        return a->priority < b->priority;
    if (a->vtime != b->vtime)
        return a->vtime < b->vtime;
    return a->tenant < b->tenant;
}

int kerf_decide_next(const struct kerf_candidate *candidates, int count)
{
    int best = -1;
    for (int i = 0; i < count; i++)
        if (best < 0 || before(&candidates[i], &candidates[best]))
            best = i;
    return best;
}

uint64_t kerf_decide_lease(uint64_t round_ns, uint32_t weight, uint32_t total_weight)
{
    uint64_t part = round_ns * weight / (total_weight ? total_weight : 1);
    return part > LEASE_LEAST_NS ? part : LEASE_LEAST_NS;
}
