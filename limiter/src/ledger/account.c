/* Reserve first, allocate then: every change to what this process is charged. */
#include <string.h>

#include "ledger/ledger.h"

#define SMALL_GRAIN 512u
#define LARGE_GRAIN (2u << 20)
#define LARGE_FROM (1u << 20)

static pthread_mutex_t move_lock = PTHREAD_MUTEX_INITIALIZER; /* one change to a `charged` word at a time per process */
static uint64_t kinds[KERF_CARDS_MAX][KERF_KINDS];
static uint64_t pending[KERF_CARDS_MAX];
static uint32_t growing[KERF_CARDS_MAX];

uint64_t kerf_round(uint64_t bytes)
{
    uint64_t grain = bytes > LARGE_FROM ? LARGE_GRAIN : SMALL_GRAIN;
    return bytes > KERF_LARGEST ? bytes : (bytes + grain - 1) / grain * grain;
}

void kerf_account_child(void)
{
    pthread_mutex_init(&move_lock, NULL);
    memset(pending, 0, sizeof pending);
    memset(growing, 0, sizeof growing);
    memset(kinds, 0, sizeof kinds);
}

static bool move(int card, int64_t delta, uint64_t limit, enum kerf_kind kind)
{
    pthread_mutex_lock(&move_lock);
    bool ok = kerf.slot >= 0 && kerf_slot_move(kerf.ledger, (unsigned)kerf.slot, (unsigned)card, delta, limit);
    if (ok) {
        uint64_t *sum = &kerf.ledger->slots[kerf.slot].kinds[kind];
        __atomic_store_n(sum, *sum + (uint64_t)delta, __ATOMIC_RELAXED);
        __atomic_store_n(&kinds[card][kind], kinds[card][kind] + (uint64_t)delta, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&move_lock);
    return ok;
}

static uint64_t limit_of(int card)
{
    uint64_t limit = kerf.ledger->cards[card].memory_limit;
    return limit < KERF_LARGEST ? limit : KERF_LARGEST;
}

bool kerf_reserve_plain(int card, uint64_t bytes, enum kerf_kind kind)
{
    if (card < 0 || !bytes)
        return card != KERF_UNKNOWN_CARD;
    return bytes <= KERF_LARGEST && move(card, (int64_t)bytes, limit_of(card), kind);
}

bool kerf_reserve(int card, uint64_t bytes, enum kerf_kind kind)
{
    if (kerf_reserve_plain(card, bytes, kind))
        return true;
    if (card < 0)
        return false;
    kerf_slot_sweep(kerf.ledger, kerf.slot); /* what dead processes held is free */
    for (const kerf_reclaimer *reclaim = kerf_reclaimers; *reclaim; reclaim++)
        (*reclaim)();
    if (kerf_reserve_plain(card, bytes, kind))
        return true;
    __atomic_add_fetch(&kerf.ledger->cards[card].denied, 1, __ATOMIC_RELAXED);
    return false;
}

void kerf_force(int card, uint64_t bytes, enum kerf_kind kind)
{
    if (card < 0 || !bytes)
        return;
    (void)!move(card, (int64_t)bytes, KERF_UNLIMITED, kind);
    if (kerf_charged(kerf.ledger, (unsigned)card) > limit_of(card))
        kerf_count(KERF_EVENT_OVERHEAD_OVER);
}

void kerf_release(int card, uint64_t bytes, enum kerf_kind kind)
{
    if (card >= 0 && bytes)
        (void)!move(card, -(int64_t)bytes, KERF_UNLIMITED, kind);
}

void kerf_pending_add(int card, uint64_t bytes)
{
    if (card >= 0)
        __atomic_add_fetch(&pending[card], bytes, __ATOMIC_RELAXED);
}

void kerf_pending_take(int card, uint64_t bytes)
{
    if (card >= 0)
        __atomic_sub_fetch(&pending[card], bytes, __ATOMIC_RELAXED);
}

uint64_t kerf_pending_of(int card)
{
    return __atomic_load_n(&pending[card], __ATOMIC_RELAXED);
}

void kerf_growing_begin(int card)
{
    if (card >= 0)
        __atomic_add_fetch(&growing[card], 1, __ATOMIC_SEQ_CST);
}

void kerf_growing_end(int card)
{
    if (card >= 0)
        __atomic_sub_fetch(&growing[card], 1, __ATOMIC_SEQ_CST);
}

bool kerf_grows(int card)
{
    return __atomic_load_n(&growing[card], __ATOMIC_SEQ_CST) > 0;
}

uint64_t kerf_kind_of(int card, enum kerf_kind kind)
{
    return __atomic_load_n(&kinds[card][kind], __ATOMIC_RELAXED);
}
