/* What every kind of allocation has in common: reserve, then allocate, then keep or drop the charge. */
#include "cuda/cuda.h"

/* `device` -1 means the current context's. Nothing is charged, and success returned, where Kerf has no say. */
CUresult kerf_charge_begin(struct kerf_charge *charge, int device, uint64_t bytes, enum kerf_kind kind)
{
    *charge = (struct kerf_charge){ .card = KERF_NO_CARD, .kind = (int)kind, .bytes = kerf_round(bytes) };
    if (!kerf_go_live())
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (device < 0)
        device = kerf_current_device();
    if (device < 0)
        return CUDA_SUCCESS; /* no context: the driver's own answer is the right one */
    int card = kerf_card_of(device);
    if (card == KERF_UNKNOWN_CARD)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (card == KERF_NO_CARD)
        return CUDA_SUCCESS;
    kerf_overhead_context(card);
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
    kerf_real.cuCtxGetCurrent(&ctx);
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
    kerf_table_purge(&kerf_cuda.pointers, ctx, gone);
    kerf_table_purge(&kerf_cuda.arrays, ctx, gone);
}
