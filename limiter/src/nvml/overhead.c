/*
 * What the driver holds for this process beyond its allocations: contexts, modules, local memory,
 * buffers. Nobody reports it, so it is what NVML says the process uses minus what was charged.
 */
#include "nvml/nvml.h"

#define SAMPLES 3 /* the charge is lowered only to the highest of these: a sample may fall inside an allocation */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t history[KERF_CARDS_MAX][SAMPLES];
static unsigned turn[KERF_CARDS_MAX];
static uint32_t overhead_seen; /* bit per card: its overhead was measured before memory was first asked for */

static void open_room(void)
{
    pthread_mutex_init(&lock, NULL);
    overhead_seen = 0;
}

const struct kerf_room kerf_overhead_room = { .open = open_room };

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/*
 * Managed memory may or may not lie on the card, nor may that of calls under way: keep `now` where that
 * leaves room for doubt, so that overhead never sinks because of a charge that the driver has yet to back, and
 * never rises because of memory that is about to be charged. `used` was asked for before: a call that took its part
 * of it and is over by now has its charge in the sum.
 */
static uint64_t residual(int card, uint64_t used, uint64_t now)
{
    bool grows = kerf_grows(card);
    uint64_t sum = 0;
    for (int kind = 0; kind < (int)KERF_KINDS; kind++)
        if (kind != KERF_KIND_OVERHEAD && kind != KERF_KIND_MANAGED)
            sum += kerf_kind_of(card, (enum kerf_kind)kind);
    uint64_t highest = less(used, less(sum, kerf_pending_of(card)));
    uint64_t lowest = grows ? 0 : less(used, sum + kerf_kind_of(card, KERF_KIND_MANAGED));
    return kerf_within(now, lowest, highest);
}

static void settle(int card)
{
    uint64_t used;
    if (!kerf_own_memory(card, &used))
        return;
    pthread_mutex_lock(&lock);
    uint64_t now = kerf_kind_of(card, KERF_KIND_OVERHEAD);
    uint64_t fresh = residual(card, used, now);
    history[card][turn[card]++ % SAMPLES] = fresh;
    if (fresh > now)
        kerf_force(card, fresh - now, KERF_KIND_OVERHEAD);
    for (int i = 0; i < SAMPLES; i++)
        fresh = history[card][i] > fresh ? history[card][i] : fresh;
    if (fresh < now)
        kerf_release(card, now - fresh, KERF_KIND_OVERHEAD);
    pthread_mutex_unlock(&lock);
}

/* A context takes its memory whether or not its process ever asks for more: look at every card. */
void kerf_overhead_refresh(void)
{
    for (unsigned card = 0; card < kerf.ledger->header.card_count; card++)
        settle((int)card);
}

/* By the time memory is first asked for, what the context took must be charged, whichever way it is asked for. */
void kerf_overhead_context(int card)
{
    if (card < 0 || likely(__atomic_load_n(&overhead_seen, __ATOMIC_ACQUIRE) & (1u << card)))
        return;
    uint64_t used;
    if (!kerf_own_memory(card, &used))
        kerf_count(KERF_EVENT_NO_OVERHEAD);
    settle(card);
    __atomic_or_fetch(&overhead_seen, 1u << card, __ATOMIC_ACQ_REL);
}
