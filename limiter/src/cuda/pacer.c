/*
 * The pacer: one thread per process. It looks at the markers, publishes what this process has in flight,
 * decides how far launches may run ahead, and wakes threads at the gate; a second thread looks after the
 * ledger. Both sleep while the process launches nothing.
 */
#include <sys/prctl.h>
#include <time.h>

#include "cuda/gate.h"

#define HELD_TICK_NS 40000u   /* while threads wait at the gate */
#define IDLE_TICK_NS 500000u  /* while it does not, but did a moment ago; a container that spans cards must see its turn end */
#define IDLE_REST_NS 3000000u  /* for so long: sleep */
#define LONE_REST_NS 40000000u /* the same when it rests between its looks: the next step is not to begin with a wake-up */
#define GANG_DEPTH_NS 1000000u /* of work in flight when containers that span cards take turns: it drains at each end */
#define GANG_ALONE_NS 8000000u /* the same before another one comes */
#define CHORES_NS 1000000000ull
#define BRISK_CHORES_NS 100000000ull
#define LEAVE_TRIES 1000 /* x 100 us */
#define FRESH_NS 3000000000ull

bool kerf_gate_rests(const struct kerf_gate *gate)
{
    return gate->rest.pause_ns > KERF_LOOK_NS;
}

uint64_t kerf_lane_depth(const struct kerf_gate *gate, const struct kerf_lane *lane)
{
    uint64_t ahead = __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED) - __atomic_load_n(&lane->completed, __ATOMIC_RELAXED);
    return gate->rest.part_ns < gate->depth - kerf_within(ahead, 0, gate->depth) ? ahead + gate->rest.part_ns : gate->depth;
}

static void set_depths(struct kerf_gate *gate)
{
    for (int i = 0; i < gate->lane_count; i++) {
        struct kerf_lane *lane = gate->lanes[i];
        __atomic_store_n(&lane->depth, kerf_lane_idle(lane) ? 0 : kerf_lane_depth(gate, lane), __ATOMIC_RELEASE);
    }
}

/* With work, and one more: a stream that is about to have some. */
static int streams_of(const struct kerf_gate *gate)
{
    int streams = 1;
    for (int i = 0; i < gate->lane_count; i++)
        streams += !kerf_lane_idle(gate->lanes[i]);
    return streams;
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

uint64_t kerf_gate_launches(const struct kerf_gate *gate)
{
    uint64_t sum = 0;
    for (int i = 0; i < gate->lane_count; i++)
        sum += __atomic_load_n(&gate->lanes[i]->launches, __ATOMIC_RELAXED);
    return sum + gate->gone_launches;
}

/* Whether this process wants the card, and is kept waiting for it. */
static struct kerf_hunger hunger_of(struct kerf_gate *gate, uint64_t in_flight, uint64_t now)
{
    struct kerf_wish wish = {
        .now = now, .in_flight_ns = in_flight, .entering = gate->entering, .waiting = gate->waiting, .capped = gate->why == KERF_WHY_CAP,
        .hungry_until = gate->hungry_until,
    };
    struct kerf_hunger hunger = kerf_decide_hunger(&wish);
    gate->active_at = hunger.wants ? now : gate->active_at;
    gate->hungry_until = hunger.hungry_until;
    return hunger;
}

/* Applies the turns of containers that span cards to what this card alone would allow. */
static void settle_gang(struct kerf_gate *gate, struct kerf_pulse *pulse, uint64_t launched, uint64_t now)
{
    static const uint64_t most[] = { [KERF_GANG_ALONE] = GANG_ALONE_NS, [KERF_GANG_IN] = GANG_DEPTH_NS, [KERF_GANG_OUT] = 0 };
    enum kerf_admission admission = kerf_gang_settle(&kerf_pace.gang, &gate->seat, &gate->rank, pulse, launched, now, &gate->quota);
    gate->depth = kerf_within(gate->depth, 0, most[admission]);
}

void kerf_gate_settle(struct kerf_gate *gate, uint64_t now)
{
    struct kerf_peer peers[KERF_NODE_TENANTS];
    uint64_t in_flight = kerf_gate_in_flight(gate);
    uint32_t cap = cap_of(gate);
    struct kerf_hunger hunger = hunger_of(gate, in_flight, now);
    uint64_t launched = gate->rank.spans ? kerf_gate_launches(gate) : 0;
    struct kerf_pulse pulse = kerf_rank_pulse(&gate->rank, hunger.wants, hunger.hungry, in_flight, launched);
    kerf_seat_join(&gate->seat, (unsigned)gate->card, now);
    kerf_seat_publish(&gate->seat, &pulse, now);
    struct kerf_self self = {
        .now = now, .weight = 1, .gang = gate->rank.spans, .hungry = hunger.hungry, .held = gate->held, .in_flight_ns = in_flight, .launch_ns = gate->launch_ns,
    };
    int others = kerf_seat_look(&gate->seat, cap < 100 ? cap : 0, &self, peers);
    struct kerf_verdict verdict = kerf_decide_gate(&self, peers, others);
    gate->depth = kerf_within(verdict.depth_ns, 0, KERF_LONE_NS);
    gate->rest = kerf_decide_rest(&self, others, streams_of(gate));
    gate->lone = !others && !self.unseen;
    gate->quota = 0;
    gate->held = verdict.depth_ns == 0;
    gate->why = verdict.why;
    gate->settled_at = now;
    if (gate->rank.spans && !self.outside)
        settle_gang(gate, &pulse, launched, now);
    set_depths(gate);
}

/* Work behind the last marker that nobody adds to, or may: mark its end, so that it is seen to end. */
static void mark_tails(struct kerf_gate *gate)
{
    for (int i = 0; i < gate->lane_count; i++) {
        struct kerf_lane *lane = gate->lanes[i];
        uint64_t submitted = __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED);
        bool stale = submitted == lane->seen && submitted != lane->marked && !lane->closed;
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

/* Until the next look; 0 = nothing to look after. */
static uint64_t pause_of(const struct kerf_gate *gate, uint64_t now)
{
    bool rests = kerf_gate_rests(gate);
    if (gate->waiting)
        return HELD_TICK_NS;
    if (kerf_gate_in_flight(gate))
        return gate->rest.pause_ns;
    if (gate->active_at + (rests ? LONE_REST_NS : IDLE_REST_NS) <= now)
        return 0;
    return rests ? gate->rest.pause_ns : gate->rank.spans ? KERF_LOOK_NS : IDLE_TICK_NS;
}

/* One look at one gate. Returns how long until the next, 0 = nothing to look after. */
static uint64_t tick(struct kerf_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    uint64_t completed = 0, after = 0, depth = gate->depth, now = kerf_now_ns();
    for (int i = 0; i < gate->lane_count; i++)
        completed += gate->lanes[i]->completed;
    kerf_marker_poll(gate);
    mark_tails(gate);
    kerf_gate_settle(gate, now);
    for (int i = 0; i < gate->lane_count; i++)
        after += gate->lanes[i]->completed;
    if (after != completed || depth != gate->depth || gate->quota)
        wake_waiting(gate);
    fold_launches(gate);
    uint64_t next = pause_of(gate, now);
    pthread_mutex_unlock(&gate->lock);
    return next;
}

void kerf_pacer_kick(enum kerf_pacer_state from)
{
    if (__atomic_load_n(&kerf_pace.state, __ATOMIC_SEQ_CST) < from)
        return;
    __atomic_add_fetch(&kerf_pace.kick, 1, __ATOMIC_SEQ_CST);
    kerf_futex_wake(&kerf_pace.kick, 1, false);
}

/* Whether a gate needs the pacer at once: a thread is held back, or there is work although it means to sleep. */
static bool is_needed(enum kerf_pacer_state state)
{
    bool any = false;
    KERF_EACH_GATE(gate) {
        /* Under the lock: a thread that changes the gate after this look sees the state, and kicks. */
        pthread_mutex_lock(&gate->lock);
        any = any || gate->waiting || (state == KERF_PACER_SLEEPS && kerf_gate_in_flight(gate));
        pthread_mutex_unlock(&gate->lock);
    }
    return any;
}

static void wait_for_kick(enum kerf_pacer_state state, uint64_t timeout_ns)
{
    uint32_t kick = __atomic_load_n(&kerf_pace.kick, __ATOMIC_SEQ_CST);
    __atomic_store_n(&kerf_pace.state, state, __ATOMIC_SEQ_CST);
    if (!is_needed(state))
        kerf_futex_wait(&kerf_pace.kick, kick, timeout_ns, false);
    __atomic_store_n(&kerf_pace.state, KERF_PACER_AWAKE, __ATOMIC_SEQ_CST);
}

/*
 * The slow correction: NVML says what part of the card's time the container had. The agent's figure,
 * written into the ledger, goes before our own question. NVML may take milliseconds: no lock is held.
 * Beside a neighbour NVML's figure is of no use: a card that slices its time splits it about evenly.
 */
static bool measured_permille(const struct kerf_gate *gate, uint64_t since_ns, uint64_t now, uint32_t *permille)
{
    const struct kerf_card *record = &kerf.ledger->cards[gate->card];
    uint64_t at = __atomic_load_n(&record->measured_at_ns, __ATOMIC_ACQUIRE);
    unsigned percent;
    if (at && at + FRESH_NS > now) {
        *permille = __atomic_load_n(&record->measured_permille, __ATOMIC_ACQUIRE);
        return true;
    }
    if (!kerf_own_busy(gate->card, (now - since_ns) / 1000, &percent))
        return false;
    *permille = percent * 10;
    return true;
}

static void correct_scale(struct kerf_gate *gate)
{
    uint64_t now = kerf_now_ns(), busy = __atomic_load_n(&kerf.ledger->cards[gate->card].busy_ns, __ATOMIC_RELAXED);
    pthread_mutex_lock(&gate->lock);
    uint64_t span = now - gate->scale_at, untimed = gate->untimed_ns;
    uint32_t charged = (uint32_t)((busy - gate->scale_busy) / (span / 1000 + 1)), measured = 0;
    bool due = span >= CHORES_NS, steady = gate->scale_at && gate->lone && gate->active_at + CHORES_NS / 10 > now && charged >= 100;
    if (due) {
        gate->untimed_ns = 0;
        gate->scale_at = now;
        gate->scale_busy = busy;
    }
    pthread_mutex_unlock(&gate->lock);
    if (!due || !steady)
        return;
    if (!measured_permille(gate, span, now, &measured)) {
        if (untimed > span / 10)
            kerf_count(KERF_EVENT_UNTIMED_WORK);
        return;
    }
    pthread_mutex_lock(&gate->lock);
    gate->scale = kerf_decide_scale(gate->scale, charged, measured);
    pthread_mutex_unlock(&gate->lock);
}

static void do_chores(void)
{
    KERF_EACH_GATE(gate)
        correct_scale(gate);
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

static uint64_t tick_all(void)
{
    uint64_t soonest = 0;
    KERF_EACH_GATE(gate) {
        uint64_t next = tick(gate);
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
        uint64_t next = tick_all();
        if (!next)
            wait_for_kick(KERF_PACER_SLEEPS, CHORES_NS);
        else if (next > KERF_LOOK_NS)
            wait_for_kick(KERF_PACER_RESTS, next);
        else
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
        kerf_pacer_kick(KERF_PACER_RESTS);
        nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    }
    KERF_EACH_GATE(gate)
        kerf_seat_leave(&gate->seat);
}
