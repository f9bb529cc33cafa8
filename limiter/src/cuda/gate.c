/*
 * The launch path under a compute limit. The fast path is one look at the lane, one look at the cost
 * table and one atomic add; everything else happens when the lane is closed, idle, due for a marker,
 * or launching something not measured yet.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cuda/gate.h"

#define COSTS 8192 /* a power of two */
#define COST_TRIES 8u
#define LONE_UNKNOWN 4u
#define WAIT_NS 5000000u
#define FRESH_NS 50000u /* a decision so old is as good as a new one */

struct kerf_pace kerf_pace;

static struct {
    uint64_t key;
    uint64_t ns;
} costs[COSTS];

/* The lane this thread used last, and what its launch under way is expected to cost. */
static __thread struct {
    struct kerf_lane *lane;
    CUstream stream;
    uint32_t generation;
    uint32_t mark; /* 1: a marker is due behind this launch */
    unsigned front;   /* the marker in front of it, */
    uint64_t read_at; /* which the card had read then; 0: not known */
    CUcontext ctx;
} mine __attribute__((tls_model("initial-exec")));

static uint64_t key_of(const struct kerf_launch *launch)
{
    uint64_t key = ((uint64_t)(uintptr_t)launch->what ^ (launch->size << 40 | launch->size >> 24)) * 0x9e3779b97f4a7c15ULL;
    return key > KERF_KEY_MIXED ? key : KERF_KEY_MIXED + 1;
}

/* Where a key is, or would be: one of COST_TRIES slots. Two keys in one slot would forget each other with every launch. */
static unsigned slot_of(uint64_t key)
{
    unsigned home = (unsigned)(key >> 51), spare = COSTS;
    for (unsigned i = 0; i < COST_TRIES; i++) {
        unsigned at = (home + i) & (COSTS - 1);
        uint64_t found = __atomic_load_n(&costs[at].key, __ATOMIC_RELAXED);
        if (found == key)
            return at;
        if (!found && spare == COSTS)
            spare = at;
    }
    return spare == COSTS ? home & (COSTS - 1) : spare;
}

uint64_t kerf_cost_of(uint64_t key)
{
    unsigned at = (unsigned)(key >> 51) & (COSTS - 1);
    if (unlikely(__atomic_load_n(&costs[at].key, __ATOMIC_RELAXED) != key)) {
        at = slot_of(key);
        if (__atomic_load_n(&costs[at].key, __ATOMIC_RELAXED) != key)
            return 0;
    }
    return __atomic_load_n(&costs[at].ns, __ATOMIC_RELAXED);
}

void kerf_cost_learn(uint64_t key, uint64_t ns, bool trusted)
{
    unsigned at = slot_of(key);
    uint64_t known = kerf_cost_of(key);
    __atomic_store_n(&costs[at].ns, kerf_decide_cost(known, ns ? ns : 1, trusted), __ATOMIC_RELAXED);
    __atomic_store_n(&costs[at].key, key, __ATOMIC_RELAXED);
}

void kerf_cost_forget_all(void)
{
    memset(costs, 0, sizeof costs);
}

static uint64_t thread_of(CUstream stream)
{
    return stream == CU_STREAM_PER_THREAD ? (uint64_t)syscall(SYS_gettid) : 0;
}

/* pre: locked. NULL: no memory, or more streams than records. */
static struct kerf_lane *lane_for(struct kerf_gate *gate, CUstream stream, CUcontext ctx)
{
    uint64_t thread = thread_of(stream);
    struct kerf_space *space = kerf_space_of(gate, ctx);
    for (int i = 0; i < gate->lane_count; i++) {
        struct kerf_lane *lane = gate->lanes[i];
        if (!lane->closed && lane->stream == stream && lane->thread == thread && lane->space == space)
            return lane;
    }
    if (!space || gate->lane_count == KERF_STREAMS)
        return NULL;
    struct kerf_lane *lane = aligned_alloc(64, sizeof *lane);
    if (!lane)
        return NULL;
    memset(lane, 0, sizeof *lane);
    lane->stream = stream;
    lane->thread = thread;
    lane->gate = gate;
    lane->space = space;
    gate->lanes[gate->lane_count++] = lane;
    return lane;
}

/* The lane of this thread's stream in its current context; NULL: this launch is not limited. */
static struct kerf_lane *find_lane(CUstream stream)
{
    CUcontext ctx = NULL;
    kerf_real.cuCtxGetCurrent(&ctx);
    int device = ctx ? kerf_current_device() : -1, card = device < 0 ? KERF_NO_CARD : kerf_card_of(device);
    if (card < 0 || !kerf_go_live() || kerf_pace.gates[card].card < 0)
        return NULL;
    struct kerf_gate *gate = &kerf_pace.gates[card];
    pthread_mutex_lock(&gate->lock);
    uint32_t generation = __atomic_load_n(&kerf_pace.generation, __ATOMIC_ACQUIRE);
    struct kerf_lane *lane = lane_for(gate, stream, ctx);
    pthread_mutex_unlock(&gate->lock);
    if (!lane)
        kerf_count(KERF_EVENT_UNCAPPED_WORK);
    mine.lane = lane;
    mine.stream = stream;
    mine.ctx = ctx;
    mine.generation = generation;
    return lane;
}

/* With one context a thread stays in it; with several it must be asked for. */
static bool cached(CUstream stream)
{
    if (unlikely(mine.stream != stream || !mine.lane || mine.generation != __atomic_load_n(&kerf_pace.generation, __ATOMIC_ACQUIRE)))
        return false;
    if (likely(__atomic_load_n(&kerf_cuda.only_card, __ATOMIC_RELAXED) >= 0))
        return true;
    CUcontext ctx = NULL;
    kerf_real.cuCtxGetCurrent(&ctx);
    return ctx == mine.ctx;
}

static uint64_t ahead(const struct kerf_lane *lane)
{
    return __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED) - __atomic_load_n(&lane->completed, __ATOMIC_RELAXED);
}

static void note(struct kerf_lane *lane, uint64_t key, uint64_t cost)
{
    uint64_t before = __atomic_load_n(&lane->key, __ATOMIC_RELAXED);
    if (unlikely(before != key))
        __atomic_store_n(&lane->key, before ? KERF_KEY_MIXED : key, __ATOMIC_RELAXED);
    __atomic_store_n(&lane->launches, __atomic_load_n(&lane->launches, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
    uint64_t now = __atomic_add_fetch(&lane->submitted, cost, __ATOMIC_RELAXED);
    if (unlikely((int64_t)(now - __atomic_load_n(&lane->due, __ATOMIC_RELAXED)) >= 0))
        mine.mark = 1;
}

/* What was never measured goes one by one beside others, and a few at a time alone: a queue of it could be of any length. */
static bool may_launch(const struct kerf_gate *gate, const struct kerf_lane *lane, bool unknown)
{
    unsigned under_way = lane->tail - lane->head;
    if (gate->quota)
        return true;
    if (unknown && under_way > (gate->lone ? LONE_UNKNOWN : 1))
        return false;
    return ahead(lane) < gate->depth || (gate->lone && gate->depth && under_way <= 2);
}

/* pre: locked. Waits, lock released, until the pacer has seen something change. */
static void wait_a_little(struct kerf_gate *gate)
{
    uint32_t bell = __atomic_load_n(&gate->bell, __ATOMIC_ACQUIRE);
    gate->waiting++;
    pthread_mutex_unlock(&gate->lock);
    kerf_pacer_kick(KERF_PACER_RESTS);
    kerf_futex_wait(&gate->bell, bell, WAIT_NS, false);
    pthread_mutex_lock(&gate->lock);
    gate->waiting--;
}

/* Returns the cost, which may have become known meanwhile. */
static uint64_t hold_back(struct kerf_gate *gate, struct kerf_lane *lane, uint64_t key)
{
    uint64_t now = kerf_now_ns(), from = 0;
    gate->active_at = now;
    bool joins = kerf_gate_rests(gate) && kerf_lane_idle(lane); /* the streams' parts change */
    if (joins || lane->sampler.next || gate->settled_at + FRESH_NS < now || !may_launch(gate, lane, !kerf_cost_of(key))) {
        gate->entering++;
        kerf_marker_poll(gate);
        kerf_gate_settle(gate, now);
        gate->entering--;
    }
    while (!may_launch(gate, lane, !kerf_cost_of(key))) {
        from = from ? from : now;
        wait_a_little(gate);
    }
    if (from)
        __atomic_add_fetch(&kerf.ledger->cards[gate->card].throttled_ns, kerf_now_ns() - from, __ATOMIC_RELAXED);
    return kerf_cost_of(key);
}

static void enter_slowly(struct kerf_lane *lane, const struct kerf_launch *launch, uint64_t key)
{
    struct kerf_gate *gate = lane->gate;
    pthread_mutex_lock(&gate->lock);
    bool sampled = lane->sampler.next && launch->size;
    uint64_t cost = hold_back(gate, lane, key);
    bool idle = kerf_lane_idle(lane), alone = cost == 0 || (cost >= KERF_MARK_NS && lane->tail - lane->head < KERF_RING / 2);
    if (idle) {
        kerf_marker_place(lane, true, false);
        mine.front = lane->tail - 1;
        mine.read_at = sampled && gate->lone ? kerf_marker_read(lane) : 0; /* beside others nobody waits for that */
    } else if (alone && __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED) != lane->marked)
        kerf_marker_place(lane, false, false); /* so that what comes next is measured alone */
    __atomic_store_n(&lane->depth, kerf_lane_depth(gate, lane), __ATOMIC_RELEASE);
    note(lane, key, cost ? cost : KERF_GUESS_NS);
    gate->quota -= gate->quota > 0;
    gate->launch_ns = gate->launch_ns ? (gate->launch_ns * 7 + cost) / 8 : cost;
    mine.mark |= alone || idle; /* work that starts from rest is often all there is: see its end */
    pthread_mutex_unlock(&gate->lock);
    if (idle)
        kerf_pacer_kick(KERF_PACER_SLEEPS);
}

void kerf_gate_enter(const struct kerf_launch *launch)
{
    kerf_open();
    mine.mark = 0;
    struct kerf_lane *lane = cached(launch->stream) ? mine.lane : find_lane(launch->stream);
    if (unlikely(!lane))
        return;
    if (unlikely(__atomic_load_n(&kerf_cuda.capturing, __ATOMIC_RELAXED) > 0) && kerf_stream_captures(launch->stream))
        return; /* recorded, not run */
    uint64_t key = key_of(launch), cost = kerf_cost_of(key);
    if (likely(cost && cost < KERF_MARK_NS && ahead(lane) < __atomic_load_n(&lane->depth, __ATOMIC_ACQUIRE)))
        note(lane, key, cost);
    else
        enter_slowly(lane, launch, key);
}

void kerf_gate_leave(const struct kerf_launch *launch)
{
    (void)launch;
    if (likely(!mine.mark))
        return;
    struct kerf_lane *lane = mine.lane;
    uint64_t host_ns = mine.read_at ? kerf_now_ns() - mine.read_at : 0;
    mine.read_at = 0;
    pthread_mutex_lock(&lane->gate->lock);
    kerf_marker_behind(lane, mine.front, host_ns);
    pthread_mutex_unlock(&lane->gate->lock);
}

void kerf_gate_forget_stream(CUstream stream)
{
    if (kerf.stage != KERF_STAGE_LIVE || (uintptr_t)stream <= 2)
        return;
    KERF_EACH_GATE(gate) {
        pthread_mutex_lock(&gate->lock);
        for (int i = 0; i < gate->lane_count; i++) {
            struct kerf_lane *lane = gate->lanes[i];
            if (lane->stream != stream || lane->closed)
                continue;
            if (__atomic_load_n(&lane->submitted, __ATOMIC_RELAXED) != lane->marked)
                kerf_marker_place(lane, false, false);
            lane->closed = true;
            __atomic_add_fetch(&kerf_pace.generation, 1, __ATOMIC_ACQ_REL);
        }
        pthread_mutex_unlock(&gate->lock);
    }
}

/* The context's events go with it: drop them unseen, count their work as done. */
void kerf_gate_forget_context(CUcontext ctx)
{
    if (kerf.stage != KERF_STAGE_LIVE || !ctx)
        return;
    KERF_EACH_GATE(gate) {
        pthread_mutex_lock(&gate->lock);
        for (int i = 0; i < gate->lane_count; i++) {
            struct kerf_lane *lane = gate->lanes[i];
            if (!lane->space || lane->space->ctx != ctx)
                continue;
            lane->head = lane->tail;
            uint64_t submitted = __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED);
            __atomic_store_n(&lane->marked, submitted, __ATOMIC_RELAXED);
            lane->marked_launches = __atomic_load_n(&lane->launches, __ATOMIC_RELAXED);
            __atomic_store_n(&lane->completed, submitted, __ATOMIC_RELAXED);
            lane->closed = true;
        }
        for (int i = 0; i < KERF_SPACES; i++)
            if (gate->spaces[i].ctx == ctx)
                memset(&gate->spaces[i], 0, sizeof gate->spaces[i]);
        __atomic_add_fetch(&kerf_pace.generation, 1, __ATOMIC_ACQ_REL);
        pthread_mutex_unlock(&gate->lock);
    }
}

/* The gate of the current context's card; NULL: not limited. */
static struct kerf_gate *current_gate(void)
{
    int card = __atomic_load_n(&kerf_cuda.only_card, __ATOMIC_RELAXED);
    if (card < 0) {
        int device = kerf_current_device();
        card = device < 0 ? KERF_NO_CARD : kerf_card_of(device);
    }
    return card >= 0 && kerf.stage == KERF_STAGE_LIVE && kerf_pace.gates[card].card >= 0 ? &kerf_pace.gates[card] : NULL;
}

/*
 * A thread is about to wait for the card, so its container would notice a delay from here on, and its
 * step, the host's part of it, is over. A call with nothing in flight is not a step's end.
 */
struct kerf_gate *kerf_gate_sync_begin(void)
{
    struct kerf_gate *gate = current_gate();
    if (!gate)
        return NULL;
    pthread_mutex_lock(&gate->lock);
    bool waits = kerf_gate_in_flight(gate) > 0;
    if (waits) {
        if (!gate->syncs++ && gate->synced_at)
            gate->step_ns = kerf_decide_step(gate->step_ns, kerf_now_ns() - gate->synced_at);
        kerf_seat_sync_begin(&gate->seat);
    }
    pthread_mutex_unlock(&gate->lock);
    return waits ? gate : NULL;
}

void kerf_gate_sync_end(struct kerf_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->syncs--;
    gate->synced_at = kerf_now_ns();
    kerf_seat_sync_end(&gate->seat, gate->step_ns, gate->synced_at);
    pthread_mutex_unlock(&gate->lock);
}

/* A container that spans cards is one on every card: its gates are gated together, in one order. */
static void form_gang(void)
{
    struct kerf_gang *gang = &kerf_pace.gang;
    gang->count = 0;
    KERF_EACH_GATE(gate) {
        if (!gate->seat.node_wide)
            continue;
        const char *uuid = kerf.ledger->cards[gate->card].uuid;
        int at = gang->count++;
        for (; at > 0 && strcmp(kerf.ledger->cards[kerf_pace.gang_card[at - 1]].uuid, uuid) > 0; at--) {
            gang->seats[at] = gang->seats[at - 1];
            kerf_pace.gang_card[at] = kerf_pace.gang_card[at - 1];
        }
        gang->seats[at] = &gate->seat;
        kerf_pace.gang_card[at] = gate->card;
    }
    KERF_EACH_GATE(gate)
        gate->rank.spans = gate->seat.node_wide && gang->count > 1;
}

static void live(void)
{
    for (int card = 0; card < (int)KERF_CARDS_MAX; card++) {
        struct kerf_gate *gate = &kerf_pace.gates[card];
        const struct kerf_card *record = &kerf.ledger->cards[card];
        bool gated = card < (int)kerf.ledger->header.card_count && (record->cores || record->arbiter[0]);
        pthread_mutex_init(&gate->lock, NULL);
        gate->card = gated ? card : -1;
        gate->scale = 1000;
        if (gated)
            kerf_seat_open(&gate->seat, (unsigned)card);
    }
    form_gang();
}

static void open_room(void)
{
    memset(&kerf_pace, 0, sizeof kerf_pace);
    mine.lane = NULL;
}

const struct kerf_room kerf_gate_room = { .open = open_room, .live = live, .run = kerf_pacer_run, .leave = kerf_pacer_leave };
