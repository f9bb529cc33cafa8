/* What CUDA reports to the application: a card the size of its slice. */
#include "cuda/cuda.h"

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t room_left(int card)
{
    uint64_t limit = kerf.ledger->cards[card].memory_limit, charged = kerf_charged(kerf.ledger, (unsigned)card);
    return charged < limit ? (size_t)(limit - charged) : 0;
}

/* Trims the real figures of the current context's card to the slice. */
static void trim(size_t *free_bytes, size_t *total)
{
    int device = kerf_current_device(), card = device < 0 ? KERF_NO_CARD : kerf_card_of(device);
    if (card == KERF_UNKNOWN_CARD)
        *free_bytes = 0;
    if (card < 0)
        return;
    if (kerf_go_live())
        kerf_overhead_context(card);
    kerf_slot_sweep(kerf.ledger, kerf.slot);
    kerf_pools_refresh(false);
    *total = smaller(*total, kerf.ledger->cards[card].memory_limit);
    *free_bytes = smaller(smaller(*free_bytes, room_left(card)), *total);
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    kerf_open();
    if (!free_bytes || !total || kerf.stage < KERF_STAGE_OPEN)
        return kerf_real.cuMemGetInfo_v2(free_bytes, total);
    CUresult rc = kerf_real.cuMemGetInfo_v2(free_bytes, total);
    if (rc == CUDA_SUCCESS)
        trim(free_bytes, total);
    return rc;
}

CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total)
{
    kerf_open();
    CUresult rc = kerf_real.cuMemGetInfo(free_bytes, total);
    if (rc != CUDA_SUCCESS || !free_bytes || !total || kerf.stage < KERF_STAGE_OPEN)
        return rc;
    size_t wide_free = *free_bytes, wide_total = *total;
    trim(&wide_free, &wide_total);
    *free_bytes = (unsigned int)wide_free;
    *total = (unsigned int)wide_total;
    return rc;
}

static size_t slice_of(int device, size_t real)
{
    int card = kerf_card_of(device);
    return card < 0 ? real : smaller(real, kerf.ledger->cards[card].memory_limit);
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    kerf_open();
    CUresult rc = kerf_real.cuDeviceTotalMem_v2(bytes, device);
    if (rc == CUDA_SUCCESS && bytes && kerf.stage >= KERF_STAGE_OPEN)
        *bytes = slice_of(device, *bytes);
    return rc;
}

CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device)
{
    kerf_open();
    CUresult rc = kerf_real.cuDeviceTotalMem(bytes, device);
    if (rc == CUDA_SUCCESS && bytes && kerf.stage >= KERF_STAGE_OPEN)
        *bytes = (unsigned int)slice_of(device, *bytes);
    return rc;
}
