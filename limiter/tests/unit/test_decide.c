/* The decisions, by themselves and as a controller against a simulated clock. */
#include <stdlib.h>

#include "check.h"
#include "arbiter/decide.h"

#define MS 1000000u
#define ROUND (30u * MS)

static void picks_the_least_served(void)
{
    struct kerf_candidate some[] = { { 3, 0, 50 }, { 1, 0, 20 }, { 2, 0, 20 }, { 0, 1, 0 } };
    CHECK(kerf_decide_next(some, 0) == -1);
    CHECK(kerf_decide_next(some, 1) == 0);
    CHECK(kerf_decide_next(some, 4) == 1); /* lowest vtime among the high priority, then lowest index */
    CHECK(kerf_decide_next(some + 3, 1) == 0);
}

static void turns_are_parts_of_a_round(void)
{
    CHECK(kerf_decide_quantum(ROUND, 30, 100) == 9 * MS);
    CHECK(kerf_decide_quantum(ROUND, 70, 100) == 21 * MS);
    CHECK(kerf_decide_quantum(ROUND, 1, 100) == 2 * MS); /* never shorter */
    CHECK(kerf_decide_quantum(ROUND, 5, 0) >= 2 * MS);
}

static struct kerf_turn a_turn(uint64_t held, uint64_t vtime)
{
    return (struct kerf_turn){ .held_ns = held, .quantum_ns = 15 * MS, .round_ns = ROUND, .vtime = vtime, .total_weight = 100 };
}

static void yields_when_it_is_time(void)
{
    struct kerf_candidate equal = { 1, 0, 1000 * MS }, behind = { 1, 0, 0 }, ahead = { 1, 0, 3000ull * MS }, high = { 1, 0, 5000ull * MS };
    struct kerf_turn turn = a_turn(16 * MS, 1001 * MS);
    CHECK(kerf_decide_yield(&turn, &equal));
    CHECK(!kerf_decide_yield(&turn, &ahead)); /* the other has had more than its part */
    turn = a_turn(5 * MS, 1001 * MS);
    CHECK(!kerf_decide_yield(&turn, &equal)); /* too early */
    CHECK(kerf_decide_yield(&turn, &behind)); /* but not for one who is a round behind */
    turn = a_turn(1 * MS, 1001 * MS);
    CHECK(!kerf_decide_yield(&turn, &behind)); /* and not at once */
    turn.idle = true;
    CHECK(kerf_decide_yield(&turn, &ahead));
    turn.idle = false;
    turn.out_of_budget = true;
    CHECK(kerf_decide_yield(&turn, &ahead));
    turn = a_turn(0, 0);
    turn.priority = 1;
    CHECK(kerf_decide_yield(&turn, &high)); /* high priority waits for nobody */
    turn.priority = 0;
    high.priority = 1;
    turn = a_turn(100 * MS, 9000ull * MS);
    CHECK(!kerf_decide_yield(&turn, &high)); /* and low priority for everybody */
}

static void budget_is_share_of_time(void)
{
    CHECK(kerf_decide_budget(30, 1000, 100 * MS, 0) == 30 * (int64_t)MS);
    CHECK(kerf_decide_budget(30, 1000, 100 * MS, 50 * MS) == -20 * (int64_t)MS);
    CHECK(kerf_decide_budget(30, 1500, 100 * MS, 0) == 45 * (int64_t)MS);
    /* The elapsed time that is remembered leaves a burst of 4 ms, whatever was spent before. */
    for (uint64_t spent = 0; spent < 10000ull * MS; spent += 777 * MS) {
        int64_t left = kerf_decide_budget(30, 1000, kerf_decide_elapsed(30, 1000, spent), spent);
        CHECK(left > 3 * (int64_t)MS && left <= 4 * (int64_t)MS);
    }
}

static void costs_follow_samples(void)
{
    CHECK(kerf_decide_cost(0, 500) == 500);
    CHECK(kerf_decide_cost(400, 0) == 400);
    CHECK(kerf_decide_cost(400, 800) == 500);
    uint64_t cost = 1000000;
    for (int i = 0; i < 60; i++)
        cost = kerf_decide_cost(cost, 5000);
    CHECK(cost >= 4990 && cost < 5030);
}

static void trim_finds_the_true_share(void)
{
    /* Half of what our events show as ours was a neighbour's: aiming twice as high gives the share. */
    uint32_t trim = 1000;
    for (int i = 0; i < 40; i++)
        trim = kerf_decide_trim(trim, 300, trim * 300 / 2000);
    CHECK(trim > 1900 && trim < 2100);
    CHECK(kerf_decide_trim(1000, 300, 0) == 1000);
    CHECK(kerf_decide_trim(2900, 300, 1) == 3000);
    CHECK(kerf_decide_trim(600, 300, 1000) == 500);
}

static void sleepers_get_a_round_of_credit_no_more(void)
{
    uint64_t round = (uint64_t)ROUND * KERF_UNIT / 100;
    CHECK(kerf_decide_wake(0, 10 * round, ROUND, 100) == 9 * round);
    CHECK(kerf_decide_wake(11 * round, 10 * round, ROUND, 100) == 11 * round);
    CHECK(kerf_decide_wake(0, 0, ROUND, 100) == 0);
}

static void what_nobody_asked_for_goes_to_those_without_a_share(void)
{
    CHECK(kerf_decide_weight(30, 70) == 30);
    CHECK(kerf_decide_weight(0, 70) == 30);
    CHECK(kerf_decide_weight(0, 100) == 1);
    CHECK(kerf_decide_weight(0, 0) == 100);
}

/* A cap in a simulation: kernels of one length queue ahead of the card; the gate looks every 100 us. Permille of the time. */
static unsigned simulate_cap(unsigned cap, uint64_t kernel_ns, uint64_t run_ns)
{
    uint64_t spent = 0, in_flight = 0, epoch = 0, free_at = 0;
    for (uint64_t now = 0; now < run_ns; now += 100000) {
        uint64_t left = free_at > now ? (free_at - now + kernel_ns - 1) / kernel_ns * kernel_ns : 0; /* of what is queued */
        spent += in_flight - left;
        in_flight = left;
        uint64_t most = kerf_decide_elapsed(cap, 1000, spent + in_flight);
        if (now - epoch > most)
            epoch = now - most;
        while (in_flight < 2 * (kernel_ns > MS ? kernel_ns : MS) && kerf_decide_budget(cap, 1000, now - epoch, spent + in_flight) > 0) {
            free_at = (free_at > now ? free_at : now) + kernel_ns;
            in_flight += kernel_ns;
        }
    }
    return (unsigned)(spent * 1000 / run_ns);
}

static void a_cap_holds_for_kernels_of_any_length(void)
{
    static const uint64_t lengths[] = { 5000, 20000, 200000, 1400000, 5000000, 50000000 };
    for (unsigned cap = 10; cap <= 90; cap += 10) {
        for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            unsigned got = simulate_cap(cap, lengths[i], 20000ull * MS);
            CHECK(got + 10 >= cap * 10 && got <= cap * 10 + 10);
        }
    }
}

/* Tenants on one card, each turn running over by up to one kernel: their parts of the time, by weight. */
static void simulate_turns(const uint32_t *weights, const uint64_t *kernels, int count, unsigned *permille)
{
    struct kerf_candidate all[8];
    uint64_t had[8] = { 0 }, total = 0;
    uint32_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += weights[i], all[i] = (struct kerf_candidate){ i, 0, 0 };
    while (total < 20000ull * MS) {
        int next = kerf_decide_next(all, count);
        uint64_t quantum = kerf_decide_quantum(ROUND, weights[next], sum);
        uint64_t held = (quantum + kernels[next] - 1) / kernels[next] * kernels[next];
        all[next].vtime += held * KERF_UNIT / weights[next];
        had[next] += held;
        total += held;
    }
    for (int i = 0; i < count; i++)
        permille[i] = (unsigned)(had[i] * 1000 / total);
}

static bool about(unsigned got, unsigned wanted)
{
    return got + 10 >= wanted && got <= wanted + 10;
}

static void shares_hold_for_two_to_seven_tenants(void)
{
    unsigned got[8];
    simulate_turns((uint32_t[]){ 30, 70 }, (uint64_t[]){ 5 * MS, 5000 }, 2, got);
    CHECK(about(got[0], 300) && about(got[1], 700));
    simulate_turns((uint32_t[]){ 20, 30, 50 }, (uint64_t[]){ 50 * MS, 1400000, 5000 }, 3, got);
    CHECK(about(got[0], 200) && about(got[1], 300) && about(got[2], 500));
    simulate_turns((uint32_t[]){ 10, 10, 10, 10, 20, 20, 20 }, (uint64_t[]){ MS, MS, 5000, MS, 5 * MS, MS, MS }, 7, got);
    for (int i = 0; i < 7; i++)
        CHECK(about(got[i], i < 4 ? 100 : 200));
}

int main(void)
{
    picks_the_least_served();
    turns_are_parts_of_a_round();
    yields_when_it_is_time();
    budget_is_share_of_time();
    costs_follow_samples();
    trim_finds_the_true_share();
    sleepers_get_a_round_of_credit_no_more();
    what_nobody_asked_for_goes_to_those_without_a_share();
    a_cap_holds_for_kernels_of_any_length();
    shares_hold_for_two_to_seven_tenants();
    FINISH();
}
