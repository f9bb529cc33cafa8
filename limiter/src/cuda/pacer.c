/*
 * The pacer: one thread per process. It looks at the markers, asks for the turn, keeps it, passes it
 * on, opens and closes the lanes; now and then it looks after the ledger. It sleeps while the process
 * launches nothing.
 */
#include <sys/prctl.h>
#include <time.h>

#include "cuda/gate.h"

#define TICK_NS 100000u       /* between looks while the GPU works for us */
#define DRAIN_TICK_NS 30000u  /* while we are about to pass the turn */
#define IDLE_TICK_NS 500000u  /* while it does not, but did a moment ago */
#define IDLE_PASS_NS 300000u  /* nothing to run for so long: others may have the turn */
#define IDLE_REST_NS 20000000u /* for so long: sleep */
#define BUDGET_LEAST_NS 300000 /* a cap's budget opens the lanes again from here on */
#define CHORES_NS 1000000000ull
#define BRISK_CHORES_NS 100000000ull
#define LEAVE_TRIES 1000 /* x 100 us */
#define FRESH_NS 3000000000ull

static void set_passes(struct kerf_gate *gate)
{
    bool open = gate->hold == KERF_HOLD_TURN && !gate->broke;
    for (int i = 0; i < gate->lane_count; i++) {
        struct kerf_lane *lane = gate->lanes[i];
        __atomic_store_n(&lane->pass, open && !kerf_lane_idle(lane), __ATOMIC_RELEASE);
    }
}

static void wake_waiting(struct kerf_gate *gate)
{
    __atomic_add_fetch(&gate->bell, 1, __ATOMIC_ACQ_REL);
    if (gate->waiting)
        kerf_futex_wake(&gate->bell, INT32_MAX, false);
}

static uint32_t cap_of(const struct kerf_gate *gate)
{
    bool capped = kerf.ledger->header.policy == KERF_POLICY_CAP;
    return capped ? kerf.ledger->cards[gate->card].cores : 0;
}

static void settle_budget(struct kerf_gate *gate, uint64_t in_flight, uint64_t now)
{
    uint32_t cap = cap_of(gate);
    if (!cap || cap >= 100) {
        gate->broke = 0;
        return;
    }
    int64_t left = kerf_turn_budget(&gate->seat, cap, gate->trim, in_flight, now);
    if (gate->broke)
        gate->broke = left < BUDGET_LEAST_NS;
    else
        gate->broke = left <= 0;
}

static void settle_none(struct kerf_gate *gate, uint64_t now)
{
    bool want = gate->waiting > 0 && !gate->broke;
    kerf_turn_join(&gate->seat, (unsigned)gate->card, now);
    kerf_turn_beat(&gate->seat, want, now);
    if (!want)
        kerf_turn_decline(&gate->seat, now);
    if (!want || !kerf_turn_take(&gate->seat, now))
        return;
    gate->hold = KERF_HOLD_TURN;
    gate->idle_since = 0;
}

static void settle_turn(struct kerf_gate *gate, uint64_t in_flight, uint64_t now)
{
    bool working = in_flight || (gate->waiting && !gate->broke);
    gate->idle_since = working ? 0 : gate->idle_since ? gate->idle_since : now;
    bool idle = gate->idle_since && now - gate->idle_since >= IDLE_PASS_NS;
    kerf_turn_beat(&gate->seat, true, now);
    if (!kerf_turn_is_ours(&gate->seat)) {
        gate->hold = KERF_HOLD_NONE; /* we were silent for too long */
        return;
    }
    kerf_turn_charge(&gate->seat, now);
    if (gate->hold == KERF_HOLD_TURN && kerf_turn_must_yield(&gate->seat, gate->broke, idle, now))
        gate->hold = KERF_HOLD_DRAIN;
    if (gate->hold == KERF_HOLD_DRAIN && !in_flight) {
        kerf_turn_beat(&gate->seat, false, now);
        kerf_turn_pass(&gate->seat, now);
        gate->hold = KERF_HOLD_NONE;
    } else if (gate->hold == KERF_HOLD_TURN && gate->idle_since && now - gate->idle_since >= IDLE_REST_NS) {
        kerf_turn_beat(&gate->seat, false, now);
        kerf_turn_rest(&gate->seat, now);
        gate->hold = KERF_HOLD_REST;
    }
}

void kerf_gate_settle(struct kerf_gate *gate, uint64_t now)
{
    uint64_t in_flight = kerf_gate_in_flight(gate);
    settle_budget(gate, in_flight, now);
    if (gate->hold == KERF_HOLD_REST && gate->waiting)
        gate->hold = KERF_HOLD_NONE;
    if (gate->hold == KERF_HOLD_TURN || gate->hold == KERF_HOLD_DRAIN)
        settle_turn(gate, in_flight, now);
    if (gate->hold == KERF_HOLD_NONE)
        settle_none(gate, now);
    set_passes(gate);
}

/* Work behind the last marker that nobody adds to, or may: mark its end, so that it is seen to end. */
static void mark_tails(struct kerf_gate *gate)
{
    for (int i = 0; i < gate->lane_count; i++) {
        struct kerf_lane *lane = gate->lanes[i];
        uint64_t submitted = __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED);
        bool stale = (submitted == lane->seen || gate->hold == KERF_HOLD_DRAIN) && submitted != lane->marked && !lane->closed;
        lane->seen = submitted;
        CUcontext popped;
        if (!stale || kerf_real.cuCtxPushCurrent_v2(lane->space->ctx) != CUDA_SUCCESS)
            continue;
        kerf_marker_place_tail(lane);
        kerf_real.cuCtxPopCurrent_v2(&popped);
    }
}

static void fold_launches(struct kerf_gate *gate)
{
    for (int i = 0; i < gate->lane_count; i++) {
        uint64_t launches = __atomic_load_n(&gate->lanes[i]->launches, __ATOMIC_RELAXED);
        __atomic_add_fetch(&kerf.ledger->cards[gate->card].launches, launches - gate->lanes[i]->folded, __ATOMIC_RELAXED);
        gate->lanes[i]->folded = launches;
    }
}

/* The outer loop: the agent's measurement of our true share corrects what our own events cannot see. */
static void trim(struct kerf_gate *gate, uint64_t now)
{
    const struct kerf_card *record = &kerf.ledger->cards[gate->card];
    uint64_t at = __atomic_load_n(&record->measured_at_ns, __ATOMIC_ACQUIRE);
    uint32_t measured = __atomic_load_n(&record->measured_permille, __ATOMIC_ACQUIRE);
    if (!at || at == gate->trim_at || at + FRESH_NS < now || !cap_of(gate))
        return;
    gate->trim_at = at;
    bool wanted_more = gate->broke || gate->waiting;
    if (!wanted_more && measured <= record->cores * 10)
        return; /* below its share because it asked for no more */
    kerf_turn_retrim(&gate->seat, record->cores, gate->trim, now);
    gate->trim = kerf_decide_trim(gate->trim, record->cores * 10, measured);
}

/* One look at one gate. Returns how long until the next, 0 = nothing to look after. */
static uint64_t tick(struct kerf_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    uint64_t completed = 0, after = 0;
    for (int i = 0; i < gate->lane_count; i++)
        completed += gate->lanes[i]->completed;
    kerf_marker_poll(gate);
    mark_tails(gate);
    int hold = gate->hold, broke = gate->broke;
    uint64_t now = kerf_now_ns();
    trim(gate, now);
    kerf_gate_settle(gate, now);
    for (int i = 0; i < gate->lane_count; i++)
        after += gate->lanes[i]->completed;
    if (after != completed || hold != gate->hold || broke != gate->broke)
        wake_waiting(gate);
    fold_launches(gate);
    uint64_t in_flight = kerf_gate_in_flight(gate), next = TICK_NS;
    if (gate->hold == KERF_HOLD_DRAIN)
        next = DRAIN_TICK_NS;
    else if (!in_flight && !gate->waiting)
        next = gate->hold == KERF_HOLD_TURN ? IDLE_TICK_NS : 0;
    pthread_mutex_unlock(&gate->lock);
    return next;
}

/* Waits for our turn on the arbiter's bell where that is all there is to wait for. */
static bool await_turn(int gates, uint64_t next)
{
    if (gates != 1)
        return false;
    KERF_EACH_GATE(gate) {
        pthread_mutex_lock(&gate->lock);
        bool only_the_turn = gate->hold == KERF_HOLD_NONE && !gate->broke && gate->waiting && gate->seat.member >= 0;
        pthread_mutex_unlock(&gate->lock);
        if (!only_the_turn)
            continue;
        kerf_turn_await(&gate->seat, 10 * next);
        return true;
    }
    return false;
}

void kerf_pacer_kick(void)
{
    if (!__atomic_load_n(&kerf_pace.asleep, __ATOMIC_SEQ_CST))
        return;
    __atomic_add_fetch(&kerf_pace.kick, 1, __ATOMIC_SEQ_CST);
    kerf_futex_wake(&kerf_pace.kick, 1, false);
}

static bool anything_to_do(void)
{
    bool any = false;
    KERF_EACH_GATE(gate) {
        /* Under the lock: a thread that changes the gate after this look sees us asleep, and kicks. */
        pthread_mutex_lock(&gate->lock);
        any = any || gate->waiting || gate->hold == KERF_HOLD_TURN || gate->hold == KERF_HOLD_DRAIN;
        pthread_mutex_unlock(&gate->lock);
    }
    return any;
}

static void sleep_until_kicked(uint64_t timeout_ns)
{
    uint32_t kick = __atomic_load_n(&kerf_pace.kick, __ATOMIC_SEQ_CST);
    __atomic_store_n(&kerf_pace.asleep, 1, __ATOMIC_SEQ_CST);
    if (!anything_to_do())
        kerf_futex_wait(&kerf_pace.kick, kick, timeout_ns, false);
    __atomic_store_n(&kerf_pace.asleep, 0, __ATOMIC_SEQ_CST);
}

static void do_chores(void)
{
    kerf_overhead_refresh();
    kerf_pools_refresh(false);
    kerf_slot_sweep(kerf.ledger, kerf.slot);
}

/* Bytes move: that is when modules are loaded and overhead grows, so look again soon. */
static uint64_t chores_pause(uint64_t *charged)
{
    uint64_t sum = 0;
    for (unsigned card = 0; card < kerf.ledger->header.card_count; card++)
        sum += kerf_charged(kerf.ledger, card);
    bool moved = sum != *charged;
    *charged = sum;
    return moved ? BRISK_CHORES_NS : CHORES_NS;
}

static void run_chores(void)
{
    int relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
    uint64_t charged = 0;
    kerf_real.cuThreadExchangeStreamCaptureMode(&relaxed); /* its queries must not break a capture */
    while (!__atomic_load_n(&kerf_pace.leaving, __ATOMIC_SEQ_CST)) {
        do_chores();
        kerf_futex_wait(&kerf_pace.leaving, 0, chores_pause(&charged), false);
    }
    __atomic_add_fetch(&kerf_pace.left, 1, __ATOMIC_SEQ_CST);
}

static void *chores_main(void *unused)
{
    (void)unused;
    prctl(PR_SET_NAME, "kerf-chores");
    run_chores();
    return NULL;
}

static uint64_t tick_all(int *gates)
{
    uint64_t soonest = 0;
    *gates = 0;
    KERF_EACH_GATE(gate) {
        uint64_t next = tick(gate);
        *gates += next > 0;
        soonest = next && (!soonest || next < soonest) ? next : soonest;
    }
    return soonest;
}

static void run_ticks(void)
{
    int relaxed = CU_STREAM_CAPTURE_MODE_RELAXED;
    prctl(PR_SET_TIMERSLACK, 1000); /* this thread's alone: its ticks are short */
    kerf_real.cuThreadExchangeStreamCaptureMode(&relaxed);
    while (!__atomic_load_n(&kerf_pace.leaving, __ATOMIC_SEQ_CST)) {
        int gates;
        uint64_t next = tick_all(&gates);
        if (!next)
            sleep_until_kicked(CHORES_NS);
        else if (!await_turn(gates, next))
            nanosleep(&(struct timespec){ .tv_nsec = (long)next }, NULL);
    }
    __atomic_add_fetch(&kerf_pace.left, 1, __ATOMIC_SEQ_CST);
}

/* Chores ask NVML, which can take milliseconds: beside ticks they need a thread of their own. */
void kerf_pacer_run(void)
{
    pthread_t chores;
    prctl(PR_SET_NAME, "kerf-pacer");
    kerf_pace.threads = 1;
    if (!kerf.gated_cards) {
        run_chores();
    } else {
        if (pthread_create(&chores, NULL, chores_main, NULL) == 0) {
            pthread_detach(chores);
            kerf_pace.threads = 2;
        }
        run_ticks();
    }
    for (uint32_t left = 1;;)
        kerf_futex_wait(&left, 1, CHORES_NS, false); /* the slot is ours until the process ends */
}

/* The process is exiting: after this the driver takes itself apart, and must not be called. */
void kerf_pacer_leave(void)
{
    __atomic_store_n(&kerf_pace.leaving, 1, __ATOMIC_SEQ_CST);
    kerf_futex_wake(&kerf_pace.leaving, 1, false);
    for (int i = 0; i < LEAVE_TRIES && __atomic_load_n(&kerf_pace.left, __ATOMIC_SEQ_CST) < kerf_pace.threads; i++) {
        kerf_pacer_kick();
        nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    }
    KERF_EACH_GATE(gate)
        kerf_turn_leave(&gate->seat, kerf_now_ns());
}
