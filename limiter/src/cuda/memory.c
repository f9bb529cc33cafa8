/* cuMemAlloc and its family, and the plain free. */
#include "cuda/cuda.h"

#define PITCH_GRAIN 512u

/* One allocation of any of these kinds. `call` asks the driver; `pitch` is set by pitched ones alone. */
struct request {
    enum kerf_kind kind;
    CUresult (*call)(const struct request *request, CUdeviceptr *ptr, size_t *pitch);
    size_t bytes; /* rows x a likely pitch where it is pitched */
    size_t width, height;
    unsigned int element, flags;
};

static bool straight(const void *out)
{
    kerf_open();
    return !out;
}

/* The pitch is known only afterwards: charges the difference from the likely one. */
static bool settle_pitch(struct kerf_charge *charge, size_t pitch, size_t height)
{
    uint64_t bytes;
    if (__builtin_mul_overflow(pitch, height, &bytes))
        return false;
    bytes = kerf_round(bytes);
    if (bytes > charge->bytes && !kerf_reserve(charge->card, bytes - charge->bytes, KERF_KIND_DEVICE))
        return false;
    if (bytes < charge->bytes)
        kerf_release(charge->card, charge->bytes - bytes, KERF_KIND_DEVICE);
    charge->bytes = bytes;
    return true;
}

static CUresult alloc(const struct request *request, CUdeviceptr *out, size_t *pitch)
{
    struct kerf_charge charge;
    CUresult rc = kerf_charge_begin(&charge, -1, request->bytes, request->kind);
    if (rc != CUDA_SUCCESS)
        return rc;
    CUdeviceptr ptr = 0;
    size_t real_pitch = 0;
    rc = request->call(request, &ptr, &real_pitch);
    bool fits = rc != CUDA_SUCCESS || !real_pitch || charge.card < 0 || settle_pitch(&charge, real_pitch, request->height);
    if (rc != CUDA_SUCCESS || !fits)
        kerf_charge_drop(&charge);
    if (rc != CUDA_SUCCESS)
        return rc;
    if (!fits || !kerf_charge_keep(&charge, &kerf_cuda.pointers, ptr)) {
        kerf_real.cuMemFree_v2(ptr);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = ptr;
    if (pitch)
        *pitch = real_pitch;
    return rc;
}

static CUresult plain(const struct request *request, CUdeviceptr *ptr, size_t *pitch)
{
    (void)pitch;
    return kerf_real.cuMemAlloc_v2(ptr, request->bytes);
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes)
{
    if (straight(out))
        return kerf_real.cuMemAlloc_v2(out, bytes);
    return alloc(&(struct request){ .kind = KERF_KIND_DEVICE, .call = plain, .bytes = bytes }, out, NULL);
}

static CUresult plain_v1(const struct request *request, CUdeviceptr *ptr, size_t *pitch)
{
    CUdeviceptr_v1 narrow = 0;
    CUresult rc = kerf_real.cuMemAlloc(&narrow, (unsigned int)request->bytes);
    (void)pitch;
    *ptr = narrow;
    return rc;
}

CUresult cuMemAlloc(CUdeviceptr_v1 *out, unsigned int bytes)
{
    CUdeviceptr wide = 0;
    if (straight(out))
        return kerf_real.cuMemAlloc(out, bytes);
    CUresult rc = alloc(&(struct request){ .kind = KERF_KIND_DEVICE, .call = plain_v1, .bytes = bytes }, &wide, NULL);
    if (rc == CUDA_SUCCESS)
        *out = (CUdeviceptr_v1)wide;
    return rc;
}

static size_t likely_bytes(size_t width, size_t height)
{
    size_t bytes, row = (width + PITCH_GRAIN - 1) / PITCH_GRAIN * PITCH_GRAIN;
    return __builtin_mul_overflow(row, height, &bytes) ? SIZE_MAX : bytes;
}

static CUresult pitched(const struct request *request, CUdeviceptr *ptr, size_t *pitch)
{
    return kerf_real.cuMemAllocPitch_v2(ptr, pitch, request->width, request->height, request->element);
}

static struct request pitched_request(size_t width, size_t height, unsigned int element)
{
    return (struct request){
        .kind = KERF_KIND_DEVICE, .call = pitched, .bytes = likely_bytes(width, height), .width = width, .height = height, .element = element,
    };
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height, unsigned int element)
{
    if (straight(out) || !pitch || width > SIZE_MAX - PITCH_GRAIN)
        return kerf_real.cuMemAllocPitch_v2(out, pitch, width, height, element);
    struct request request = pitched_request(width, height, element);
    return alloc(&request, out, pitch);
}

static CUresult pitched_v1(const struct request *request, CUdeviceptr *ptr, size_t *pitch)
{
    CUdeviceptr_v1 narrow = 0;
    unsigned int narrow_pitch = 0;
    CUresult rc = kerf_real.cuMemAllocPitch(&narrow, &narrow_pitch, (unsigned int)request->width, (unsigned int)request->height, request->element);
    *ptr = narrow;
    *pitch = narrow_pitch;
    return rc;
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *out, unsigned int *pitch, unsigned int width, unsigned int height, unsigned int element)
{
    CUdeviceptr wide = 0;
    size_t wide_pitch = 0;
    if (straight(out) || !pitch)
        return kerf_real.cuMemAllocPitch(out, pitch, width, height, element);
    struct request request = pitched_request(width, height, element);
    request.call = pitched_v1;
    CUresult rc = alloc(&request, &wide, &wide_pitch);
    if (rc == CUDA_SUCCESS) {
        *out = (CUdeviceptr_v1)wide;
        *pitch = (unsigned int)wide_pitch;
    }
    return rc;
}

static CUresult managed(const struct request *request, CUdeviceptr *ptr, size_t *pitch)
{
    (void)pitch;
    return kerf_real.cuMemAllocManaged(ptr, request->bytes, request->flags);
}

CUresult cuMemAllocManaged(CUdeviceptr *out, size_t bytes, unsigned int flags)
{
    if (straight(out))
        return kerf_real.cuMemAllocManaged(out, bytes, flags);
    return alloc(&(struct request){ .kind = KERF_KIND_MANAGED, .call = managed, .bytes = bytes, .flags = flags }, out, NULL);
}

/*
 * The record is taken out before the driver's free: the moment that returns, another thread may get the
 * same address. Pointers without a record (imports, other libraries' own) go to the driver unchanged.
 */
bool kerf_pointer_take(CUdeviceptr ptr, struct kerf_entry *entry)
{
    kerf_open();
    return kerf_table_take(&kerf_cuda.pointers, ptr, entry);
}

/* After the driver's free: gives the charge back, or puts the record back where the driver refused. */
CUresult kerf_pointer_freed(CUresult rc, const struct kerf_entry *entry)
{
    if (rc != CUDA_SUCCESS)
        (void)!kerf_table_put(&kerf_cuda.pointers, entry); /* the row just vacated is there */
    else if (entry->kind == KERF_KIND_POOL)
        kerf_pool_freed(entry->object, entry->bytes);
    else
        kerf_release(entry->card, entry->bytes, (enum kerf_kind)entry->kind);
    return rc;
}

CUresult cuMemFree_v2(CUdeviceptr ptr)
{
    struct kerf_entry entry;
    bool known = kerf_pointer_take(ptr, &entry);
    CUresult rc = kerf_real.cuMemFree_v2(ptr);
    return known ? kerf_pointer_freed(rc, &entry) : rc;
}

CUresult cuMemFree(CUdeviceptr_v1 ptr)
{
    struct kerf_entry entry;
    bool known = kerf_pointer_take(ptr, &entry);
    CUresult rc = kerf_real.cuMemFree(ptr);
    return known ? kerf_pointer_freed(rc, &entry) : rc;
}
