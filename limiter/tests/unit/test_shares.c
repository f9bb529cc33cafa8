/* The decisions on a simulated card, with the containers that inference brings: the same targets as on a real one. */
#include "check.h"
#include "simulate.h"

#define SECONDS 30

static struct world run(const struct tenant *tenants, int count, bool kerf)
{
    struct world world = { .count = count, .kerf = kerf };
    for (int i = 0; i < count; i++) {
        world.tenant[i] = tenants[i];
        world.tenant[i].depth = 1;
    }
    simulate(&world, SECONDS);
    return world;
}

/* Work of each in percent of what it does alone; the sum of them. */
struct outcome {
    double work[TENANTS], p99[TENANTS], sum;
};

static struct outcome outcome_of(struct world *world, const struct tenant *tenants)
{
    struct outcome outcome = { .sum = 0 };
    for (int i = 0; i < world->count; i++) {
        struct tenant alone = tenants[i];
        alone.cap = false;
        struct world single = run(&alone, 1, false);
        outcome.work[i] = (double)world->tenant[i].done * 100 / (double)single.tenant[0].done;
        double p99 = p99_ms(&single.tenant[0]);
        outcome.p99[i] = p99 > 0 ? p99_ms(&world->tenant[i]) / p99 : 0;
        outcome.sum += outcome.work[i];
    }
    return outcome;
}

static struct outcome share(const struct tenant *tenants, int count, bool kerf)
{
    static struct world world;
    world = run(tenants, count, kerf);
    return outcome_of(&world, tenants);
}

static const struct tenant chat = { .work = CHAT, .weight = 50 }, decode = { .work = DECODE, .weight = 50 },
                           gemm = { .work = GEMM, .weight = 50, .kernel_ns = 1400 * US },
                           tiny = { .work = TINY, .weight = 50, .kernel_ns = 5 * US }, graph = { .work = GRAPH, .weight = 50 };

static struct tenant with(struct tenant tenant, uint32_t weight, uint32_t priority, bool cap)
{
    tenant.weight = weight;
    tenant.priority = priority;
    tenant.cap = cap;
    return tenant;
}

static void chats_do_not_wait_for_each_other(bool cap)
{
    struct tenant chats[] = { with(chat, 25, 0, cap), with(chat, 25, 0, cap), with(chat, 25, 0, cap), with(chat, 25, 0, cap) };
    struct outcome bare = share(chats, 4, false), kerf = share(chats, 4, true);
    CHECK(kerf.sum >= 0.97 * bare.sum);
    for (int i = 0; i < 4; i++)
        CHECK(kerf.p99[i] <= 1.25 * bare.p99[i]);
}

static void decodes_do_not_wait_for_each_other(void)
{
    struct tenant two[] = { decode, decode };
    CHECK(share(two, 2, true).sum >= 0.95 * share(two, 2, false).sum);
}

static void a_decode_beside_a_gemm_keeps_its_pace(void)
{
    struct tenant two[] = { decode, gemm };
    struct outcome bare = share(two, 2, false), kerf = share(two, 2, true);
    CHECK(kerf.work[0] >= 0.95 * bare.work[0]);
    CHECK(kerf.sum >= 0.95 * bare.sum);
}

static void a_chat_beside_a_gemm_hardly_notices_it(void)
{
    struct tenant two[] = { chat, gemm };
    struct outcome bare = share(two, 2, false), kerf = share(two, 2, true);
    CHECK(bare.p99[0] > 2); /* a card alone does not manage that */
    CHECK(kerf.p99[0] <= 1.5);
    CHECK(kerf.work[1] >= 0.6 * bare.work[1]);
}

static void priority_leaves_the_rest_to_low(void)
{
    struct tenant two[] = { chat, with(gemm, 50, 1, false) };
    struct outcome bare = share(two, 2, false), kerf = share(two, 2, true);
    CHECK(kerf.p99[0] <= 1.25);
    CHECK(kerf.work[1] >= 0.6 * bare.work[1]);
}

static void saturating_work_is_split_by_weight(void)
{
    struct tenant two[] = { with(gemm, 30, 0, false), with(gemm, 70, 0, false) };
    struct outcome pair = share(two, 2, true);
    CHECK(pair.work[0] > 27 && pair.work[0] < 33 && pair.work[1] > 67);
    struct tenant three[] = { with(gemm, 20, 0, false), with(tiny, 30, 0, false), with(gemm, 50, 0, false) };
    struct outcome all = share(three, 3, true);
    CHECK(all.work[0] > 17 && all.work[0] < 23 && all.work[1] > 27 && all.work[1] < 33 && all.work[2] > 47);
    struct tenant mixed[] = { graph, gemm }; /* waited for, and still half of the card */
    CHECK(share(mixed, 2, true).work[0] > 47);
}

static void a_cap_holds_and_costs_nothing_to_who_does_not_need_it(void)
{
    struct tenant saturating = with(gemm, 50, 0, true), needs_less = with(decode, 50, 0, true), bursts = with(chat, 50, 0, true);
    struct outcome held = share(&saturating, 1, true);
    CHECK(held.work[0] > 48 && held.work[0] < 52);
    CHECK(share(&needs_less, 1, true).work[0] >= 98);
    CHECK(share(&bursts, 1, true).work[0] >= 98);
}

/* Looks a second. */
static uint64_t looks(struct tenant tenant)
{
    struct world world = run(&tenant, 1, true);
    return world.tenant[0].looks / SECONDS;
}

static void who_does_not_need_its_cap_is_hardly_looked_at(void)
{
    CHECK(looks(with(decode, 50, 0, true)) < 1000 * MS / KERF_REST_NS + 10);
    CHECK(looks(with(gemm, 50, 0, true)) > 1000);
}

int main(void)
{
    chats_do_not_wait_for_each_other(false);
    chats_do_not_wait_for_each_other(true);
    decodes_do_not_wait_for_each_other();
    a_decode_beside_a_gemm_keeps_its_pace();
    a_chat_beside_a_gemm_hardly_notices_it();
    priority_leaves_the_rest_to_low();
    saturating_work_is_split_by_weight();
    a_cap_holds_and_costs_nothing_to_who_does_not_need_it();
    who_does_not_need_its_cap_is_hardly_looked_at();
    FINISH();
}
