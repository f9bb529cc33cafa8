/* The launch path itself, over a driver of a few functions and a card whose clock the test sets. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "cuda/gate.h"

#define MS 1000000ull

struct CUevent_st {
    uint64_t done_at;
};

static struct kerf_ledger ledger;
static uint64_t card_now, card_until; /* what the card's clock says, and when its queue is over */
static uint64_t kernel_ns; /* of each launch */
static CUcontext ctx = (CUcontext)1;
static struct CUevent_st events[256];
static int used, asked; /* events made, calls about events */

static struct {
    uint64_t now;                /* the host's clock and the card's, in nanoseconds; 0: the host's is the real one */
    uint64_t ahead_ns;           /* the application's own copies, in front of each launch */
    uint64_t call_ns, after_ns;  /* of the launch call; of that, after it has submitted the launch */
} timed;

/* The library's clock. */
int clock_gettime(clockid_t clock, struct timespec *out)
{
    if (!timed.now)
        return (int)syscall(SYS_clock_gettime, clock, out);
    *out = (struct timespec){ (time_t)(timed.now / 1000000000), (long)(timed.now % 1000000000) };
    return 0;
}

static void pass(uint64_t ns)
{
    if (timed.now)
        card_now = timed.now += ns;
}

static CUresult get_context(CUcontext *out)
{
    *out = ctx;
    return CUDA_SUCCESS;
}

static CUresult get_device(CUdevice *out)
{
    *out = 0;
    return CUDA_SUCCESS;
}

static CUresult create(CUevent *out, unsigned flags)
{
    (void)flags;
    *out = &events[used++ % 256];
    return CUDA_SUCCESS;
}

static CUresult record(CUevent event, CUstream stream)
{
    (void)stream;
    asked++;
    pass(1500);
    event->done_at = card_until > card_now || !timed.now ? card_until : card_now;
    return CUDA_SUCCESS;
}

static CUresult query(CUevent event)
{
    asked++;
    pass(1000);
    return event->done_at <= __atomic_load_n(&card_now, __ATOMIC_ACQUIRE) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

static CUresult elapsed(float *ms, CUevent from, CUevent to)
{
    *ms = (float)((double)(to->done_at - from->done_at) / 1e6);
    return CUDA_SUCCESS;
}

/* A process under `policy`, with half of the card, that has launched nothing. */
static struct kerf_gate *fresh(enum kerf_policy policy)
{
    memset(&ledger, 0, sizeof ledger);
    ledger.header.card_count = 1;
    ledger.header.policy = policy;
    ledger.arbiters[0].head = (struct kerf_arbiter){ .magic = KERF_ARBITER_MAGIC, .tenant_count = KERF_LOCAL_TENANTS, .member_count = KERF_LOCAL_MEMBERS };
    ledger.cards[0].cores = ledger.cards[0].weight = 50;
    kerf = (struct kerf_state){ .open = 1, .stage = KERF_STAGE_LIVE, .gated_cards = 1, .ledger = &ledger, .tenant_id = 7 };
    kerf_cuda.only_card = 0;
    kerf_cuda.devices = 1;
    kerf_real = (struct kerf_real){
        .cuCtxGetCurrent = get_context, .cuCtxGetDevice = get_device, .cuEventCreate = create, .cuEventRecord = record,
        .cuEventQuery = query, .cuEventElapsedTime = elapsed,
    };
    for (int i = 0; i < kerf_pace.gates[0].lane_count; i++)
        free(kerf_pace.gates[0].lanes[i]);
    kerf_cost_forget_all();
    kerf_gate_room.open();
    kerf_gate_room.live();
    card_now = card_until = 0;
    kernel_ns = 250000; /* exact in the float milliseconds of events */
    return &kerf_pace.gates[0];
}

static void launch(uintptr_t kernel)
{
    struct kerf_launch one = { (void *)kernel, 1, (CUstream)16 };
    kerf_gate_enter(&one);
    card_until = (card_until > card_now ? card_until : card_now) + kernel_ns;
    kerf_gate_leave(&one);
}

/* What the pacer does at a look. */
static void look(struct kerf_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    kerf_marker_poll(gate);
    kerf_gate_settle(gate, kerf_now_ns());
    pthread_mutex_unlock(&gate->lock);
}

#define SHORT_NS 5000u
#define NEIGHBOURS true
#define FLOAT_NS 200u /* events' times are floats of milliseconds since another event */

static struct {
    struct kerf_arbiter head;
    struct kerf_tenant tenants[KERF_NODE_TENANTS];
    struct kerf_member members[KERF_NODE_MEMBERS];
} node;

static void seat_beside_a_neighbour(struct kerf_gate *gate)
{
    memset(&node, 0, sizeof node);
    node.tenants[0] = (struct kerf_tenant){ .id = 99, .weight = 10, .seen_ns = timed.now + 1000000 * MS, .moved_ns = timed.now };
    gate->seat = (struct kerf_seat){ .head = &node.head, .tenants = node.tenants, .members = node.members, .tenant = -1, .member = -1, .node_wide = true };
    kerf_seat_join(&gate->seat, 0, timed.now);
}

/* A program waits for each of its short kernels. What one of them is charged, in nanoseconds, when it has run many times. */
static uint64_t learned_from_rest(uint64_t size, uint64_t kernel, bool neighbours)
{
    struct kerf_gate *gate = fresh(KERF_POLICY_CAP);
    struct kerf_launch one = { (void *)1, size, (CUstream)16 };
    timed.now = card_now = 1000 * MS;
    if (neighbours)
        seat_beside_a_neighbour(gate);
    for (int i = 0; i < 20000; i++) {
        __atomic_store_n(&gate->seat.tenants[gate->seat.tenant].balance_ns, 400 * (int64_t)MS, __ATOMIC_RELEASE);
        card_until = timed.now + timed.ahead_ns;
        kerf_gate_enter(&one);
        pass(size ? timed.call_ns : 0); /* several kernels: the first runs while the call is on */
        card_until = (card_until > card_now ? card_until : card_now) + kernel;
        pass(size ? timed.after_ns : timed.call_ns);
        kerf_gate_leave(&one);
        pass((card_until > card_now ? card_until - card_now : 0) + 10000); /* it waits, and works for a while */
        if (i % 50 == 0)
            look(gate);
    }
    uint64_t launched = gate->lanes[0]->launches, before = gate->lanes[0]->submitted;
    kerf_gate_enter(&one);
    uint64_t cost = gate->lanes[0]->submitted - before;
    kerf_gate_leave(&one);
    CHECK(launched == 20000);
    timed.now = 0;
    return cost;
}

static void a_short_kernel_from_rest_is_charged_what_it_runs(void)
{
    timed.ahead_ns = timed.after_ns = 0;
    timed.call_ns = 4000;
    uint64_t cost = learned_from_rest(1, SHORT_NS, !NEIGHBOURS);
    CHECK(cost >= SHORT_NS && cost < SHORT_NS * 6 / 5);
}

static void beside_neighbours_its_whole_time_is_charged(void)
{
    timed.ahead_ns = timed.after_ns = 0;
    timed.call_ns = 4000;
    CHECK(learned_from_rest(1, SHORT_NS, NEIGHBOURS) > SHORT_NS + timed.call_ns * 9 / 10);
}

/* The start event waits for the copy, and the kernel begins right behind it: the host's time is not in between. */
static void behind_a_copy_nothing_is_taken_off(void)
{
    timed.ahead_ns = 40000;
    timed.after_ns = 0;
    timed.call_ns = 4000;
    CHECK(learned_from_rest(1, SHORT_NS, !NEIGHBOURS) + FLOAT_NS >= SHORT_NS);
}

static void of_several_kernels_in_one_call_nothing_is_taken_off(void)
{
    timed.ahead_ns = timed.after_ns = 0;
    timed.call_ns = 4000;
    CHECK(learned_from_rest(0, SHORT_NS, !NEIGHBOURS) + FLOAT_NS >= SHORT_NS);
}

/* Where each call waits for its kernel (CUDA_LAUNCH_BLOCKING), the error is small. */
static void a_call_that_waits_for_its_kernel_hides_little_of_it(void)
{
    for (uint64_t kernel = SHORT_NS; kernel < 100 * SHORT_NS; kernel *= 2) {
        timed.ahead_ns = 0;
        timed.call_ns = 4000;
        timed.after_ns = kernel;
        CHECK(learned_from_rest(1, kernel, !NEIGHBOURS) + 2500 >= kernel);
    }
}

static uint32_t published(const struct kerf_gate *gate)
{
    return __atomic_load_n(&gate->seat.members[gate->seat.member].want, __ATOMIC_ACQUIRE);
}

static void rest(struct kerf_gate *gate)
{
    __atomic_store_n(&card_now, card_until + MS, __ATOMIC_RELEASE);
    look(gate);
}

static void each_step_begins_without_being_kept_waiting(void)
{
    struct kerf_gate *gate = fresh(KERF_POLICY_WEIGHT);
    for (int step = 0; step < 20; step++) {
        gate->settled_at = 0; /* the host paused */
        launch(1);
        CHECK(published(gate) == KERF_WANT_CARD);
        rest(gate);
        CHECK(published(gate) == 0);
    }
}

static void *launch_many(void *unused)
{
    (void)unused;
    for (uintptr_t kernel = 1; kernel <= 8; kernel++) /* none of them known: they go one by one */
        launch(kernel);
    return NULL;
}

static bool is_held(struct kerf_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    bool held = gate->waiting > 0;
    pthread_mutex_unlock(&gate->lock);
    return held;
}

static void a_launch_that_is_held_back_is_kept_waiting(void)
{
    struct kerf_gate *gate = fresh(KERF_POLICY_WEIGHT);
    pthread_t thread;
    pthread_create(&thread, NULL, launch_many, NULL);
    while (!is_held(gate))
        sched_yield();
    look(gate);
    CHECK(published(gate) == (KERF_WANT_CARD | KERF_WANT_MORE));
    __atomic_store_n(&card_now, 1000 * MS, __ATOMIC_RELEASE);
    look(gate);
    pthread_join(thread, NULL);
}

static void a_long_queue_is_hungry(void)
{
    struct kerf_gate *gate = fresh(KERF_POLICY_WEIGHT);
    launch(1);
    rest(gate);
    for (int i = 0; i < 8; i++) {
        launch(1);
        look(gate);
        CHECK(published(gate) == (uint32_t)(i < 3 ? KERF_WANT_CARD : KERF_WANT_CARD | KERF_WANT_MORE));
    }
}

#define STEPS 200
#define STEP_KERNELS 60

/* Steps of short kernels that the host waits for; calls about events in each. */
static int calls_in_a_step(struct kerf_gate *gate, int64_t credit_ns)
{
    kernel_ns = 10000;
    for (int step = 0; step < 2 * STEPS; step++) {
        asked = step == STEPS ? 0 : asked;
        __atomic_store_n(&gate->seat.tenants[0].balance_ns, credit_ns, __ATOMIC_RELEASE);
        for (uintptr_t kernel = 1; kernel <= STEP_KERNELS; kernel++) {
            launch(kernel % 7 + 1);
            __atomic_store_n(&card_now, card_until, __ATOMIC_RELEASE);
        }
        card_now += MS;
    }
    return asked / STEPS;
}

static void within_its_credit_a_lone_program_hardly_asks_the_driver(void)
{
    int near = calls_in_a_step(fresh(KERF_POLICY_CAP), 2 * MS), far = calls_in_a_step(fresh(KERF_POLICY_CAP), 400 * MS);
    printf("near the end of its credit %d calls about events in a step, far from it %d\n", near, far);
    CHECK(far * 3 < near);
}

static int64_t balance(const struct kerf_gate *gate)
{
    return __atomic_load_n(&gate->seat.tenants[0].balance_ns, __ATOMIC_ACQUIRE);
}

static void with_balance(struct kerf_gate *gate, int64_t ns)
{
    __atomic_store_n(&gate->seat.tenants[0].balance_ns, ns, __ATOMIC_RELEASE);
    look(gate);
}

/* One process more than the container's arbiter has seats for. */
static struct kerf_gate *without_a_seat(void)
{
    struct kerf_gate *gate = fresh(KERF_POLICY_CAP);
    kerf_seat_leave(&gate->seat);
    for (unsigned i = 0; i < KERF_LOCAL_MEMBERS; i++)
        gate->seat.members[i] = (struct kerf_member){ .token = i + 2, .heartbeat_ns = kerf_now_ns() + 1000000 * MS };
    return gate;
}

static void a_process_without_a_seat_is_held_by_its_containers_account(void)
{
    struct kerf_gate *gate = without_a_seat();
    with_balance(gate, -50 * (int64_t)MS);
    CHECK(gate->seat.member < 0 && gate->depth == 0 && gate->why == KERF_WHY_CAP);
    with_balance(gate, 200 * (int64_t)MS);
    CHECK(gate->depth == 1);
    CHECK(ledger.header.events[KERF_EVENT_NO_ARBITER] == 1); /* once, not at each look */
}

static void what_a_process_without_a_seat_uses_is_charged_to_its_container(void)
{
    struct kerf_gate *gate = without_a_seat();
    with_balance(gate, 200 * (int64_t)MS);
    kernel_ns = 50 * MS;
    for (int i = 0; i < 2; i++) { /* the first is measured */
        launch(1);
        rest(gate);
    }
    CHECK(balance(gate) < 160 * (int64_t)MS);
}

static void a_seat_that_becomes_free_is_taken(void)
{
    struct kerf_gate *gate = without_a_seat();
    with_balance(gate, 200 * (int64_t)MS);
    gate->seat.members[7].token = 0;
    look(gate);
    CHECK(gate->seat.member == 7 && gate->depth > MS);
}

/* More containers at a card than its arbiter has accounts for. */
static void a_container_without_an_account_waits_until_another_has_left(void)
{
    struct kerf_gate *gate = fresh(KERF_POLICY_WEIGHT);
    seat_beside_a_neighbour(gate);
    for (unsigned i = 0; i < KERF_NODE_TENANTS; i++)
        node.tenants[i] = (struct kerf_tenant){ .id = 100 + i, .weight = 1, .seen_ns = kerf_now_ns() + 1000 * MS };
    look(gate);
    CHECK(gate->seat.tenant < 0 && gate->depth == 0 && gate->why == KERF_WHY_SEAT);
    for (int future = 0; future < 2; future++) { /* nor does it wait for one that says nonsense */
        node.tenants[5 + future] = (struct kerf_tenant){ .id = 200, .seen_ns = future ? UINT64_MAX / 2 : kerf_now_ns() - 3000 * MS };
        gate->seat.tenant = gate->seat.member = -1;
        kerf.tenant_id++;
        look(gate);
        CHECK(gate->seat.tenant == 5 + future && gate->depth > MS);
    }
}

int main(void)
{
    within_its_credit_a_lone_program_hardly_asks_the_driver();
    each_step_begins_without_being_kept_waiting();
    a_launch_that_is_held_back_is_kept_waiting();
    a_long_queue_is_hungry();
    a_short_kernel_from_rest_is_charged_what_it_runs();
    beside_neighbours_its_whole_time_is_charged();
    behind_a_copy_nothing_is_taken_off();
    of_several_kernels_in_one_call_nothing_is_taken_off();
    a_call_that_waits_for_its_kernel_hides_little_of_it();
    a_process_without_a_seat_is_held_by_its_containers_account();
    what_a_process_without_a_seat_uses_is_charged_to_its_container();
    a_seat_that_becomes_free_is_taken();
    a_container_without_an_account_waits_until_another_has_left();
    FINISH();
}
