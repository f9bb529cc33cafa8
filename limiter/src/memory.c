/* cuMemAlloc and its family, and the plain free. */
#include "kerf.h"

#define PITCH_GRAIN 512u

static CUresult alloc(CUdeviceptr *out, size_t bytes, CUresult (*call)(CUdeviceptr *, size_t))
{
    struct kerf_charge charge;
    CUresult rc = kerf_charge_begin(&charge, -1, bytes, KERF_KIND_DEVICE);
    if (rc != CUDA_SUCCESS)
        return rc;
    CUdeviceptr ptr = 0;
    rc = call(&ptr, bytes);
    if (rc != CUDA_SUCCESS) {
        kerf_charge_drop(&charge);
        return rc;
    }
    if (!kerf_charge_keep(&charge, &kerf.pointers, ptr)) {
        kerf.real.cuMemFree_v2(ptr);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = ptr;
    return rc;
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes)
{
    kerf_open();
    if (!out || kerf.stage == KERF_STAGE_PASS)
        return kerf.real.cuMemAlloc_v2(out, bytes);
    return alloc(out, bytes, kerf.real.cuMemAlloc_v2);
}

static CUresult alloc_v1(CUdeviceptr *out, size_t bytes)
{
    CUdeviceptr_v1 narrow = 0;
    CUresult rc = kerf.real.cuMemAlloc(&narrow, (unsigned int)bytes);
    *out = narrow;
    return rc;
}

CUresult cuMemAlloc(CUdeviceptr_v1 *out, unsigned int bytes)
{
    kerf_open();
    if (!out || kerf.stage == KERF_STAGE_PASS)
        return kerf.real.cuMemAlloc(out, bytes);
    CUdeviceptr ptr = 0;
    CUresult rc = alloc(&ptr, bytes, alloc_v1);
    if (rc == CUDA_SUCCESS)
        *out = (CUdeviceptr_v1)ptr;
    return rc;
}

static bool product(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* The pitch is known only afterwards: reserve for a likely one, then settle the difference. */
static CUresult settle_pitch(struct kerf_charge *charge, CUdeviceptr ptr, size_t pitch, size_t height)
{
    uint64_t bytes;
    bool ok = product(pitch, height, &bytes);
    bytes = ok ? kerf_round(bytes) : 0;
    if (ok && bytes > charge->bytes)
        ok = kerf_reserve(charge->card, bytes - charge->bytes, KERF_KIND_DEVICE);
    else if (ok)
        kerf_release(charge->card, charge->bytes - bytes, KERF_KIND_DEVICE);
    if (ok)
        charge->bytes = bytes;
    else
        kerf_charge_drop(charge);
    if (ok && kerf_charge_keep(charge, &kerf.pointers, ptr))
        return CUDA_SUCCESS;
    kerf.real.cuMemFree_v2(ptr);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height, unsigned int element)
{
    kerf_open();
    uint64_t row = width, bytes;
    if (!out || !pitch || kerf.stage == KERF_STAGE_PASS || width > UINT64_MAX - PITCH_GRAIN)
        return kerf.real.cuMemAllocPitch_v2(out, pitch, width, height, element);
    row = (row + PITCH_GRAIN - 1) / PITCH_GRAIN * PITCH_GRAIN;
    if (!product(row, height, &bytes))
        bytes = UINT64_MAX;
    struct kerf_charge charge;
    CUresult rc = kerf_charge_begin(&charge, -1, bytes, KERF_KIND_DEVICE);
    if (rc != CUDA_SUCCESS)
        return rc;
    CUdeviceptr ptr = 0;
    size_t real_pitch = 0;
    rc = kerf.real.cuMemAllocPitch_v2(&ptr, &real_pitch, width, height, element);
    if (rc != CUDA_SUCCESS) {
        kerf_charge_drop(&charge);
        return rc;
    }
    if (charge.card >= 0)
        rc = settle_pitch(&charge, ptr, real_pitch, height);
    if (rc == CUDA_SUCCESS) {
        *out = ptr;
        *pitch = real_pitch;
    }
    return rc;
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *out, unsigned int *pitch, unsigned int width, unsigned int height, unsigned int element)
{
    kerf_open();
    if (!out || !pitch || kerf.stage == KERF_STAGE_PASS)
        return kerf.real.cuMemAllocPitch(out, pitch, width, height, element);
    uint64_t row = ((uint64_t)width + PITCH_GRAIN - 1) / PITCH_GRAIN * PITCH_GRAIN;
    struct kerf_charge charge;
    CUresult rc = kerf_charge_begin(&charge, -1, row * height, KERF_KIND_DEVICE);
    if (rc != CUDA_SUCCESS)
        return rc;
    CUdeviceptr_v1 ptr = 0;
    unsigned int real_pitch = 0;
    rc = kerf.real.cuMemAllocPitch(&ptr, &real_pitch, width, height, element);
    if (rc != CUDA_SUCCESS) {
        kerf_charge_drop(&charge);
        return rc;
    }
    if (charge.card >= 0)
        rc = settle_pitch(&charge, ptr, real_pitch, height);
    if (rc == CUDA_SUCCESS) {
        *out = ptr;
        *pitch = real_pitch;
    }
    return rc;
}

CUresult cuMemAllocManaged(CUdeviceptr *out, size_t bytes, unsigned int flags)
{
    kerf_open();
    if (!out || kerf.stage == KERF_STAGE_PASS)
        return kerf.real.cuMemAllocManaged(out, bytes, flags);
    struct kerf_charge charge;
    CUresult rc = kerf_charge_begin(&charge, -1, bytes, KERF_KIND_MANAGED);
    if (rc != CUDA_SUCCESS)
        return rc;
    CUdeviceptr ptr = 0;
    rc = kerf.real.cuMemAllocManaged(&ptr, bytes, flags);
    if (rc != CUDA_SUCCESS) {
        kerf_charge_drop(&charge);
        return rc;
    }
    if (!kerf_charge_keep(&charge, &kerf.pointers, ptr)) {
        kerf.real.cuMemFree_v2(ptr);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = ptr;
    return rc;
}

/*
 * The record goes before the driver's free: the moment that returns, another thread may be given
 * the same address. Pointers we do not know (imports, other libraries' own) are the driver's business.
 */
CUresult cuMemFree_v2(CUdeviceptr ptr)
{
    kerf_open();
    struct kerf_entry entry;
    if (kerf.stage == KERF_STAGE_PASS || !kerf_table_take(&kerf.pointers, ptr, &entry))
        return kerf.real.cuMemFree_v2(ptr);
    CUresult rc = kerf.real.cuMemFree_v2(ptr);
    if (rc != CUDA_SUCCESS) {
        (void)!kerf_table_put(&kerf.pointers, &entry); /* the row just vacated is there */
        return rc;
    }
    if (entry.kind == KERF_KIND_POOL)
        kerf_pool_freed(entry.object, entry.bytes);
    else
        kerf_release(entry.card, entry.bytes, (enum kerf_kind)entry.kind);
    return rc;
}

CUresult cuMemFree(CUdeviceptr_v1 ptr)
{
    kerf_open();
    struct kerf_entry entry;
    if (kerf.stage == KERF_STAGE_PASS || !kerf_table_take(&kerf.pointers, ptr, &entry))
        return kerf.real.cuMemFree(ptr);
    CUresult rc = kerf.real.cuMemFree(ptr);
    if (rc != CUDA_SUCCESS)
        (void)!kerf_table_put(&kerf.pointers, &entry);
    else
        kerf_release(entry.card, entry.bytes, (enum kerf_kind)entry.kind);
    return rc;
}
