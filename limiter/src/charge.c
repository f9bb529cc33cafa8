/* Reserve first, allocate then: what every kind of allocation has in common. */
#include "kerf.h"

#define SMALL_GRAIN 512u         /* the driver packs small blocks */
#define LARGE_GRAIN (2u << 20)   /* and gives larger ones whole 2 MiB pages */
#define LARGE_FROM (1u << 20)
#define LARGEST (1ULL << (KERF_CHARGED_BITS - 1))

uint64_t kerf_round(uint64_t bytes)
{
    uint64_t grain = bytes > LARGE_FROM ? LARGE_GRAIN : SMALL_GRAIN;
    return bytes > LARGEST ? bytes : (bytes + grain - 1) / grain * grain;
}

int kerf_current_device(void)
{
    CUdevice device;
    return kerf.real.cuCtxGetDevice(&device) == CUDA_SUCCESS ? device : -1;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whether a record's text ("GPU-…", "MIG-…" or digits: the n-th visible card) means this device. */
static bool names_device(const char *text, const CUuuid *uuid, int device)
{
    int number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && at - text < 4; at++)
        number = number * 10 + (*at - '0');
    if (!*at)
        return number == device;
    for (at = text; *at && *at != '-';)
        at++;
    int nibbles = 0;
    for (; *at && nibbles < 32; at++) {
        int value = hex(*at);
        if (value < 0)
            continue;
        int byte = (unsigned char)uuid->bytes[nibbles / 2];
        if (value != (nibbles % 2 ? byte & 15 : byte >> 4))
            return false;
        nibbles++;
    }
    return nibbles == 32;
}

static int find_card(CUdevice device)
{
    CUuuid uuid = { { 0 } };
    CUresult rc = kerf_has(kerf.real.cuDeviceGetUuid_v2) ? kerf.real.cuDeviceGetUuid_v2(&uuid, device)
                                                         : kerf.real.cuDeviceGetUuid(&uuid, device);
    if (rc != CUDA_SUCCESS)
        return KERF_UNKNOWN_CARD;
    for (unsigned i = 0; i < kerf.ledger->header.card_count; i++)
        if (names_device(kerf.ledger->cards[i].uuid, &uuid, device))
            return (int)i;
    kerf_count(KERF_EVENT_UNKNOWN_CARD);
    return KERF_UNKNOWN_CARD;
}

static void map_devices(void)
{
    int count = 0;
    if (kerf.real.cuDeviceGetCount(&count) != CUDA_SUCCESS || count <= 0)
        return; /* cuInit has not run; ask again next time */
    if (count > KERF_DEVICES_MAX)
        count = KERF_DEVICES_MAX;
    pthread_mutex_lock(&kerf.start_lock);
    for (int i = 0; i < count && !kerf.devices; i++)
        __atomic_store_n(&kerf.card_of_device[i], (int16_t)find_card(i), __ATOMIC_RELAXED);
    kerf.only_card = count == 1 ? kerf.card_of_device[0] : KERF_NO_CARD;
    __atomic_store_n(&kerf.devices, count, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&kerf.start_lock);
}

int kerf_card_of(int device)
{
    if (kerf.stage < KERF_STAGE_OPEN)
        return KERF_NO_CARD;
    if (!__atomic_load_n(&kerf.devices, __ATOMIC_ACQUIRE))
        map_devices();
    if (device < 0 || device >= __atomic_load_n(&kerf.devices, __ATOMIC_ACQUIRE))
        return KERF_NO_CARD;
    return __atomic_load_n(&kerf.card_of_device[device], __ATOMIC_RELAXED);
}

static bool move(int card, int64_t delta, uint64_t limit, enum kerf_kind kind)
{
    pthread_mutex_lock(&kerf.move_lock);
    bool ok = kerf.slot >= 0 && kerf_slot_move(kerf.ledger, (unsigned)kerf.slot, (unsigned)card, delta, limit);
    if (ok) {
        uint64_t *sum = &kerf.ledger->slots[kerf.slot].kinds[kind];
        __atomic_store_n(sum, *sum + (uint64_t)delta, __ATOMIC_RELAXED);
        __atomic_store_n(&kerf.kinds[card][kind], kerf.kinds[card][kind] + (uint64_t)delta, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&kerf.move_lock);
    return ok;
}

static uint64_t limit_of(int card)
{
    uint64_t limit = kerf.ledger->cards[card].memory_limit;
    return limit < LARGEST ? limit : LARGEST;
}

bool kerf_reserve_plain(int card, uint64_t bytes, enum kerf_kind kind)
{
    if (card < 0 || !bytes)
        return card != KERF_UNKNOWN_CARD;
    return bytes <= LARGEST && move(card, (int64_t)bytes, limit_of(card), kind);
}

bool kerf_reserve(int card, uint64_t bytes, enum kerf_kind kind)
{
    if (kerf_reserve_plain(card, bytes, kind))
        return true;
    if (card < 0)
        return false;
    /* Before saying no: what the dead held and what our pools hold idle is there to be had. */
    kerf_slot_sweep(kerf.ledger, kerf.slot);
    kerf_pools_refresh(true);
    kerf_graph_settle();
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
        __atomic_add_fetch(&kerf.pending[card], bytes, __ATOMIC_RELAXED);
}

void kerf_pending_take(int card, uint64_t bytes)
{
    if (card >= 0)
        __atomic_sub_fetch(&kerf.pending[card], bytes, __ATOMIC_RELAXED);
}

/* `device` -1 means the current context's. Nothing is charged, and success returned, where Kerf has no say. */
CUresult kerf_charge_begin(struct kerf_charge *charge, int device, uint64_t bytes, enum kerf_kind kind)
{
    *charge = (struct kerf_charge){ .card = KERF_NO_CARD, .kind = (int)kind, .bytes = kerf_round(bytes) };
    if (!kerf_go_live())
        return kerf.stage == KERF_STAGE_PASS ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    if (device < 0)
        device = kerf_current_device();
    if (device < 0)
        return CUDA_SUCCESS; /* no context: the driver's own answer is the right one */
    int card = kerf_card_of(device);
    if (card == KERF_UNKNOWN_CARD)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (card == KERF_NO_CARD)
        return CUDA_SUCCESS;
    kerf_overhead_context(device);
    kerf_pending_add(card, charge->bytes);
    if (!kerf_reserve(card, charge->bytes, kind)) {
        kerf_pending_take(card, charge->bytes);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    charge->card = card;
    charge->pending = charge->bytes;
    return CUDA_SUCCESS;
}

void kerf_charge_done(struct kerf_charge *charge)
{
    kerf_pending_take(charge->card, charge->pending);
    charge->pending = 0;
}

void kerf_charge_drop(struct kerf_charge *charge)
{
    kerf_charge_done(charge);
    kerf_release(charge->card, charge->bytes, (enum kerf_kind)charge->kind);
    charge->card = KERF_NO_CARD;
}

bool kerf_charge_keep(struct kerf_charge *charge, struct kerf_table *table, uint64_t key)
{
    if (charge->card < 0)
        return true;
    CUcontext ctx = NULL;
    kerf.real.cuCtxGetCurrent(&ctx);
    struct kerf_entry entry = {
        .key = key, .bytes = charge->bytes, .object = ctx, .card = (int16_t)charge->card, .kind = (uint16_t)charge->kind,
    };
    if (kerf_table_put(table, &entry)) {
        kerf_charge_done(charge);
        return true;
    }
    kerf_count(KERF_EVENT_TABLE_FULL);
    kerf_charge_drop(charge);
    return false;
}

static void gone(const struct kerf_entry *entry)
{
    kerf_release(entry->card, entry->bytes, (enum kerf_kind)entry->kind);
}

void kerf_purge_context(CUcontext ctx)
{
    if (kerf.stage != KERF_STAGE_LIVE || !ctx)
        return;
    kerf_table_purge(&kerf.pointers, ctx, gone);
    kerf_table_purge(&kerf.arrays, ctx, gone);
}
