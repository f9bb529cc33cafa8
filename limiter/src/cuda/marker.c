/*
 * GPU time, measured: timing events put behind every half millisecond of estimated work, and in front
 * of work that starts on an idle stream. What was busy on several streams at once counts once.
 */
#include <string.h>

#include "cuda/gate.h"

#define REBASE_NS 2e9 /* cuEventElapsedTime answers in float milliseconds: keep the spans short */

struct kerf_space *kerf_space_of(struct kerf_gate *gate, CUcontext ctx)
{
    struct kerf_space *spare = NULL;
    for (int i = 0; i < KERF_SPACES; i++) {
        if (gate->spaces[i].ctx == ctx)
            return &gate->spaces[i];
        if (!gate->spaces[i].ctx && !spare)
            spare = &gate->spaces[i];
    }
    if (spare)
        spare->ctx = ctx;
    if (spare != gate->spaces)
        __atomic_store_n(&kerf_cuda.only_card, KERF_NO_CARD, __ATOMIC_RELAXED); /* threads must look which context they are in */
    return spare;
}

bool kerf_lane_idle(const struct kerf_lane *lane)
{
    return lane->head == lane->tail && __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED) == lane->marked;
}

uint64_t kerf_gate_in_flight(const struct kerf_gate *gate)
{
    uint64_t sum = 0;
    for (int i = 0; i < gate->lane_count; i++)
        sum += __atomic_load_n(&gate->lanes[i]->submitted, __ATOMIC_RELAXED) - gate->lanes[i]->completed;
    return sum;
}

static CUevent take_event(struct kerf_space *space)
{
    CUevent event = NULL;
    if (space->spares)
        return space->spare[--space->spares];
    return kerf_real.cuEventCreate(&event, 0) == CUDA_SUCCESS ? event : NULL;
}

static void give_event(struct kerf_space *space, CUevent event)
{
    if (space->spares < (int)(sizeof space->spare / sizeof *space->spare))
        space->spare[space->spares++] = event;
    else
        kerf_real.cuEventDestroy_v2(event);
}

/* Work that cannot be marked counts as its estimate, at once. */
static void complete_unmarked(struct kerf_lane *lane, uint64_t submitted)
{
    uint64_t estimate = submitted - lane->marked;
    __atomic_store_n(&lane->marked, submitted, __ATOMIC_RELAXED);
    __atomic_store_n(&lane->completed, lane->completed + estimate, __ATOMIC_RELAXED);
    lane->gate->busy_ns += estimate;
    lane->cursor_known = false;
}

static CUresult record(struct kerf_lane *lane, CUevent event, bool by_pacer)
{
    /* Another thread's default stream cannot be named; the legacy one waits for it. */
    CUstream stream = by_pacer && lane->thread ? CU_STREAM_LEGACY : lane->stream;
    bool capturing = __atomic_load_n(&kerf_cuda.capturing, __ATOMIC_ACQUIRE) > 0;
    if (capturing && (by_pacer || kerf_stream_captures(stream)))
        return CUDA_ERROR_NOT_READY; /* never touch streams while one may begin to be captured */
    return kerf_real.cuEventRecord(event, stream);
}

void kerf_marker_place(struct kerf_lane *lane, bool start, bool by_pacer)
{
    uint64_t submitted = __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED);
    if (lane->tail - lane->head == KERF_RING || (!start && submitted == lane->marked))
        return;
    int saved;
    bool relaxed = __atomic_load_n(&kerf_cuda.capturing, __ATOMIC_ACQUIRE) > 0;
    if (relaxed)
        kerf_relaxed_begin(&saved);
    CUevent event = take_event(lane->space);
    CUresult rc = event ? record(lane, event, by_pacer) : CUDA_ERROR_OUT_OF_MEMORY;
    if (relaxed)
        kerf_relaxed_end(&saved);
    if (rc != CUDA_SUCCESS) {
        if (event)
            give_event(lane->space, event);
        if (rc != CUDA_ERROR_NOT_READY)
            kerf_count(KERF_EVENT_NO_MARKER);
        if (rc != CUDA_ERROR_NOT_READY && !start)
            complete_unmarked(lane, submitted);
        return;
    }
    struct kerf_marker *marker = &lane->ring[lane->tail++ % KERF_RING];
    *marker = (struct kerf_marker){ .event = event, .start = start };
    if (start)
        return;
    marker->estimate_ns = submitted - lane->marked;
    marker->key = __atomic_exchange_n(&lane->key, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&lane->marked, submitted, __ATOMIC_RELAXED);
    /* If the GPU is through with it already, it may have been for a while. */
    marker->loose = by_pacer && kerf_real.cuEventQuery(event) == CUDA_SUCCESS;
}

/*
 * By the pacer, behind work that nobody adds to. While a capture is under way no stream of the
 * application may be touched from here; then the estimate has to do, or the turn would be held for as
 * long as the capture lasts.
 */
void kerf_marker_place_tail(struct kerf_lane *lane)
{
    if (__atomic_load_n(&kerf_cuda.capturing, __ATOMIC_ACQUIRE) <= 0)
        kerf_marker_place(lane, false, true);
    else if (lane->head == lane->tail)
        complete_unmarked(lane, __atomic_load_n(&lane->submitted, __ATOMIC_RELAXED));
}

/* When a completed event happened, on its context's time line. */
static bool time_of(struct kerf_space *space, CUevent event, double *ns)
{
    float ms = 0;
    if (!space->base) {
        *ns = space->base_ns;
        return true;
    }
    if (kerf_real.cuEventElapsedTime(&ms, space->base, event) != CUDA_SUCCESS)
        return false;
    *ns = space->base_ns + (double)ms * 1e6;
    return true;
}

/* The event is done with: it becomes the base when the old one is too far back, else it is reused. */
static void retire(struct kerf_space *space, CUevent event, double ns)
{
    if (space->base && ns - space->base_ns < REBASE_NS) {
        give_event(space, event);
        return;
    }
    if (space->base)
        give_event(space, space->base);
    space->base = event;
    space->base_ns = ns;
}

static double count_busy(struct kerf_space *space, double from, double to)
{
    if (from < space->busy_until)
        from = space->busy_until;
    if (to <= from)
        return 0;
    space->busy_until = to;
    return to - from;
}

/*
 * Learns what one launch costs from a stretch of equal ones: its estimate was off by counted / estimated.
 * What other streams did meanwhile is not counted twice, so the estimates of all add up to the clock.
 */
static void learn(const struct kerf_marker *marker, double counted)
{
    if (marker->key <= KERF_KEY_MIXED || marker->loose || !marker->estimate_ns || counted <= 0)
        return;
    uint64_t known = kerf_cost_of(marker->key);
    double each = (double)(known ? known : KERF_GUESS_NS) * counted / (double)marker->estimate_ns;
    kerf_cost_learn(marker->key, (uint64_t)each);
}

static void complete(struct kerf_lane *lane, const struct kerf_marker *marker, double now_ns)
{
    double measured = now_ns - lane->cursor;
    bool trusted = lane->cursor_known && !(marker->loose && measured > (double)marker->estimate_ns);
    double from = trusted ? lane->cursor : now_ns - (double)marker->estimate_ns;
    double counted = count_busy(lane->space, from, now_ns);
    lane->gate->busy_ns += (uint64_t)counted;
    if (trusted)
        learn(marker, counted);
    __atomic_store_n(&lane->completed, lane->completed + marker->estimate_ns, __ATOMIC_RELAXED);
}

static void poll_lane(struct kerf_lane *lane)
{
    while (lane->head != lane->tail) {
        struct kerf_marker *marker = &lane->ring[lane->head % KERF_RING];
        CUresult rc = kerf_real.cuEventQuery(marker->event);
        double ns = 0;
        if (rc == CUDA_ERROR_NOT_READY)
            break;
        lane->head++;
        if (rc != CUDA_SUCCESS || !time_of(lane->space, marker->event, &ns)) {
            /* The context is broken (a kernel faulted): let the application find out from its own calls. */
            __atomic_store_n(&lane->completed, lane->completed + marker->estimate_ns, __ATOMIC_RELAXED);
            lane->cursor_known = false;
            continue;
        }
        if (!marker->start)
            complete(lane, marker, ns);
        lane->cursor = ns;
        lane->cursor_known = true;
        retire(lane->space, marker->event, ns);
    }
    if (kerf_lane_idle(lane)) {
        __atomic_store_n(&lane->pass, 0, __ATOMIC_RELEASE); /* the next launch puts a marker in front */
        lane->cursor_known = false;
    }
}

static void drop_closed(struct kerf_gate *gate, int i)
{
    struct kerf_lane *lane = gate->lanes[i];
    if (!lane->closed || !kerf_lane_idle(lane))
        return;
    /* Kept, not freed: another thread may still be looking at it. */
    gate->lanes[i] = gate->lanes[--gate->lane_count];
}

/* Events are asked about in their own context: the pacer has none, a thread may be in another. */
static void poll_in_context(struct kerf_lane *lane, CUcontext current)
{
    CUcontext popped;
    if (lane->space->ctx == current) {
        poll_lane(lane);
    } else if (kerf_real.cuCtxPushCurrent_v2(lane->space->ctx) == CUDA_SUCCESS) {
        poll_lane(lane);
        kerf_real.cuCtxPopCurrent_v2(&popped);
    }
}

void kerf_marker_poll(struct kerf_gate *gate)
{
    CUcontext current = NULL;
    int saved;
    bool relaxed = __atomic_load_n(&kerf_cuda.capturing, __ATOMIC_ACQUIRE) > 0;
    uint64_t before = gate->busy_ns;
    if (relaxed)
        kerf_relaxed_begin(&saved);
    kerf_real.cuCtxGetCurrent(&current);
    for (int i = gate->lane_count - 1; i >= 0; i--) {
        poll_in_context(gate->lanes[i], current);
        drop_closed(gate, i);
    }
    if (relaxed)
        kerf_relaxed_end(&saved);
    uint64_t busy = gate->busy_ns - before;
    if (!busy)
        return;
    kerf_turn_spend(&gate->seat, busy);
    __atomic_add_fetch(&kerf.ledger->cards[gate->card].busy_ns, busy, __ATOMIC_RELAXED);
    __atomic_add_fetch(&kerf.ledger->slots[kerf.slot].busy_ns, busy, __ATOMIC_RELAXED);
}
