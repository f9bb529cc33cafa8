/*
 * GPU time: timing events behind every half millisecond of learned work, and in front of work that
 * starts on an idle stream. They say when work is over and teach what launches cost; what is charged is
 * the learned cost. What was busy on several streams at once counts once.
 */
#include <string.h>

#include "cuda/gate.h"

#define TRUSTED_NS 20000.0 /* the host launches faster than this */
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

static uint64_t mean_stretch(const struct kerf_lane *lane)
{
    return lane->gate->rest.pause_ns == KERF_REST_NS ? KERF_RARE_MARK_NS : KERF_MARK_NS;
}

/*
 * A launch that is to be sampled takes the slow path, because the GPU may be waiting for it: then a
 * marker goes in front of it, too, or the host's time would be measured with it.
 */
static void set_marked(struct kerf_lane *lane, uint64_t submitted)
{
    uint64_t least = (submitted - lane->completed) / (KERF_RING / 2); /* the ring must reach to the end of a long queue */
    uint64_t stretch = kerf_decide_stretch(&lane->sampler, submitted >= lane->due, mean_stretch(lane), least);
    __atomic_store_n(&lane->marked, submitted, __ATOMIC_RELAXED);
    __atomic_store_n(&lane->due, submitted + stretch, __ATOMIC_RELAXED);
    if (lane->sampler.next)
        __atomic_store_n(&lane->depth, 0, __ATOMIC_RELEASE);
}

/* Work that cannot be marked counts as its estimate, at once. */
static void complete_unmarked(struct kerf_lane *lane, uint64_t submitted)
{
    uint64_t estimate = submitted - lane->marked;
    set_marked(lane, submitted);
    __atomic_store_n(&lane->completed, lane->completed + estimate, __ATOMIC_RELAXED);
    lane->gate->busy_ns += estimate;
    lane->gate->untimed_ns += estimate;
    lane->marked_launches = __atomic_load_n(&lane->launches, __ATOMIC_RELAXED);
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
    bool follows = lane->tail != lane->head;
    CUevent before = follows ? lane->ring[(lane->tail - 1) % KERF_RING].event : NULL;
    struct kerf_marker *marker = &lane->ring[lane->tail++ % KERF_RING];
    *marker = (struct kerf_marker){ .event = event, .start = start };
    if (start) {
        lane->late_marker = false;
        __atomic_store_n(&lane->due, lane->marked + kerf_decide_stretch(&lane->sampler, false, mean_stretch(lane), 0), __ATOMIC_RELAXED);
        return;
    }
    uint64_t launches = __atomic_load_n(&lane->launches, __ATOMIC_RELAXED);
    marker->estimate_ns = submitted - lane->marked;
    marker->launches = launches - lane->marked_launches;
    lane->marked_launches = launches;
    marker->key = __atomic_exchange_n(&lane->key, 0, __ATOMIC_RELAXED);
    marker->clean = !by_pacer && !lane->late_marker; /* the pacer's may fall between a launch's record and the launch */
    lane->late_marker = by_pacer;
    marker->queued = follows && !by_pacer && kerf_real.cuEventQuery(before) == CUDA_ERROR_NOT_READY;
    set_marked(lane, submitted);
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

/*
 * Once the card has read the marker in front of a launch, nothing is ahead of that launch: no copy of the application's in
 * its stream, no other process's time slice. Only from then on does the card certainly wait for the host.
 */
uint64_t kerf_marker_read(struct kerf_lane *lane)
{
    const struct kerf_marker *last = &lane->ring[(lane->tail - 1) % KERF_RING];
    if (lane->head == lane->tail || !last->start || __atomic_load_n(&kerf_cuda.capturing, __ATOMIC_ACQUIRE) > 0)
        return 0;
    for (uint64_t now = kerf_now_ns(), end = now + KERF_READ_NS; now < end; now = kerf_now_ns()) {
        CUresult rc = kerf_real.cuEventQuery(last->event);
        if (rc != CUDA_ERROR_NOT_READY)
            return rc == CUDA_SUCCESS ? now : 0;
    }
    return 0;
}

void kerf_marker_behind(struct kerf_lane *lane, unsigned front, uint64_t host_ns)
{
    unsigned behind = lane->tail;
    kerf_marker_place(lane, false, false);
    if (!host_ns || lane->tail == behind || behind != front + 1)
        return;
    struct kerf_marker *marker = &lane->ring[behind % KERF_RING];
    marker->host_ns = host_ns;
    marker->usual_ns = lane->gate->usual_ns;
    lane->gate->usual_ns = kerf_decide_usual(lane->gate->usual_ns, host_ns);
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

/*
 * `used` of the `measured` time up to `now`, but no more than passed on this context's time line since
 * what was counted before: work of several streams that ran at once counts once.
 */
static double count_busy(struct kerf_space *space, double used, double measured, double now)
{
    space->room += now > space->counted_to ? now - space->counted_to : 0;
    space->counted_to = now > space->counted_to ? now : space->counted_to;
    struct kerf_counted found = kerf_decide_counted(used, measured, space->room);
    space->room = found.room;
    return found.counted;
}

/*
 * Learns what one launch costs from a stretch of equal ones. Where the GPU waited for the host the
 * stretch took longer than its work, so several launches, and short ones, are trusted only when they
 * were queued, or when it is known how long the GPU waited.
 */
static void learn(const struct kerf_marker *marker, double measured)
{
    if (marker->key <= KERF_KEY_MIXED || !marker->clean || !marker->launches || measured <= 0)
        return;
    double each = measured / (double)marker->launches;
    bool single = marker->launches == 1;
    struct kerf_sample sample = { (uint64_t)each, single && each >= TRUSTED_NS };
    if (single && marker->host_ns)
        sample = kerf_decide_from_rest(&(struct kerf_rested){ (uint64_t)each, marker->host_ns, marker->usual_ns });
    kerf_cost_learn(marker->key, sample.ns, marker->queued || sample.trusted);
}

/* Charges the learned solo duration, never more than the time it took, and overlapping streams once. */
static void complete(struct kerf_lane *lane, const struct kerf_marker *marker, double now_ns)
{
    double used = (double)marker->estimate_ns, measured = lane->cursor_known ? now_ns - lane->cursor : used;
    if (lane->cursor_known)
        learn(marker, measured);
    /* The pacer's marker may come before a launch that it counts: what does not fit now is counted with what follows. */
    used += lane->owed;
    double counted = count_busy(lane->space, used, measured, now_ns);
    lane->owed = marker->clean ? 0 : used - counted;
    lane->gate->busy_ns += (uint64_t)counted;
    bool timed = marker->queued || (marker->key > KERF_KEY_MIXED && (double)kerf_cost_of(marker->key) >= TRUSTED_NS);
    lane->gate->untimed_ns += timed ? 0 : (uint64_t)counted;
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
        __atomic_store_n(&lane->depth, 0, __ATOMIC_RELEASE); /* the next launch puts a marker in front */
        lane->cursor_known = false;
    }
}

static void drop_closed(struct kerf_gate *gate, int i)
{
    struct kerf_lane *lane = gate->lanes[i];
    if (!lane->closed || !kerf_lane_idle(lane))
        return;
    gate->gone_launches += __atomic_load_n(&lane->launches, __ATOMIC_RELAXED);
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
    uint64_t busy = (gate->busy_ns - before) * gate->scale / 1000;
    if (!busy)
        return;
    kerf_seat_charge(&gate->seat, busy, kerf_now_ns());
    __atomic_add_fetch(&kerf.ledger->cards[gate->card].busy_ns, busy, __ATOMIC_RELAXED);
    __atomic_add_fetch(&kerf.ledger->slots[kerf.slot].busy_ns, busy, __ATOMIC_RELAXED);
}
