/* Arrays and mipmapped arrays: the driver does not say how big they are, so it is computed. */
#include "cuda/cuda.h"

#define ARRAY_GRAIN 65536ull
#define TOO_BIG (1ull << 62)
#define UNBACKED (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING) /* memory comes with cuMemMapArrayAsync */

static uint64_t element_bytes(int format, unsigned channels)
{
    static const unsigned char packed[] = { 1, 2, 4, 2, 4, 8, 1, 2, 4, 2, 4, 8 }; /* 0xc0..0xcb: (U|S)NORM_INT(8|16)X(1|2|4) */
    switch (format) {
    case 0x01: case 0x08: return channels;
    case 0x02: case 0x09: case 0x10: return 2ull * channels;
    case 0x03: case 0x0a: case 0x20: return 4ull * channels;
    default: break;
    }
    if (format >= 0xc0 && format <= 0xcb)
        return packed[format - 0xc0];
    return format >= 0x91 && format <= 0x9d ? 1 : 4; /* block-compressed: at most a byte a texel */
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b ? b : 1, &product) || product > TOO_BIG ? TOO_BIG : product;
}

static uint64_t level_bytes(const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned level)
{
    size_t shrunk = desc->Depth >> level;
    size_t depth = desc->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP) ? desc->Depth : shrunk;
    uint64_t row = times(element_bytes(desc->Format, desc->NumChannels), desc->Width >> level);
    return times(times(row, desc->Height >> level), depth);
}

static uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned levels)
{
    if (desc->Flags & UNBACKED)
        return 0;
    uint64_t sum = 0;
    for (unsigned level = 0; level < levels && level < 32 && sum < TOO_BIG; level++)
        sum += level_bytes(desc, level);
    return (sum + ARRAY_GRAIN - 1) / ARRAY_GRAIN * ARRAY_GRAIN;
}

/* What differs between the five ways to make an array. */
struct maker {
    const void *desc;
    unsigned levels;
    CUresult (*make)(const struct maker *maker, void **out);
    CUresult (*unmake)(void *array);
};

static CUresult create(void **out, const struct maker *maker, uint64_t bytes)
{
    struct kerf_charge charge;
    CUresult rc = kerf_charge_begin(&charge, -1, bytes, KERF_KIND_ARRAY);
    if (rc != CUDA_SUCCESS)
        return rc;
    void *array = NULL;
    rc = maker->make(maker, &array);
    if (rc != CUDA_SUCCESS) {
        kerf_charge_drop(&charge);
        return rc;
    }
    if (!kerf_charge_keep(&charge, &kerf_cuda.arrays, (uint64_t)(uintptr_t)array)) {
        maker->unmake(array);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = array;
    return rc;
}

static CUresult unmake_array(void *array)
{
    return kerf_real.cuArrayDestroy(array);
}

static CUresult unmake_mipmap(void *array)
{
    return kerf_real.cuMipmappedArrayDestroy(array);
}

static CUresult make_v1(const struct maker *maker, void **out)
{
    return kerf_real.cuArrayCreate((CUarray *)out, maker->desc);
}

static CUresult make_v2(const struct maker *maker, void **out)
{
    return kerf_real.cuArrayCreate_v2((CUarray *)out, maker->desc);
}

static CUresult make_3d_v1(const struct maker *maker, void **out)
{
    return kerf_real.cuArray3DCreate((CUarray *)out, maker->desc);
}

static CUresult make_3d_v2(const struct maker *maker, void **out)
{
    return kerf_real.cuArray3DCreate_v2((CUarray *)out, maker->desc);
}

static CUresult make_mipmap(const struct maker *maker, void **out)
{
    return kerf_real.cuMipmappedArrayCreate((CUmipmappedArray *)out, maker->desc, maker->levels);
}

static bool straight(const void *out, const void *desc)
{
    kerf_open();
    return !out || !desc;
}

CUresult cuArrayCreate(CUarray *out, const CUDA_ARRAY_DESCRIPTOR_v1 *desc)
{
    if (straight(out, desc))
        return kerf_real.cuArrayCreate(out, desc);
    CUDA_ARRAY3D_DESCRIPTOR wide = { .Width = desc->Width, .Height = desc->Height, .Format = desc->Format, .NumChannels = desc->NumChannels };
    return create((void **)out, &(struct maker){ .desc = desc, .make = make_v1, .unmake = unmake_array }, array_bytes(&wide, 1));
}

CUresult cuArrayCreate_v2(CUarray *out, const CUDA_ARRAY_DESCRIPTOR *desc)
{
    if (straight(out, desc))
        return kerf_real.cuArrayCreate_v2(out, desc);
    CUDA_ARRAY3D_DESCRIPTOR wide = { .Width = desc->Width, .Height = desc->Height, .Format = desc->Format, .NumChannels = desc->NumChannels };
    return create((void **)out, &(struct maker){ .desc = desc, .make = make_v2, .unmake = unmake_array }, array_bytes(&wide, 1));
}

CUresult cuArray3DCreate(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR_v1 *desc)
{
    if (straight(out, desc))
        return kerf_real.cuArray3DCreate(out, desc);
    CUDA_ARRAY3D_DESCRIPTOR wide = { desc->Width, desc->Height, desc->Depth, desc->Format, desc->NumChannels, desc->Flags };
    return create((void **)out, &(struct maker){ .desc = desc, .make = make_3d_v1, .unmake = unmake_array }, array_bytes(&wide, 1));
}

CUresult cuArray3DCreate_v2(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc)
{
    if (straight(out, desc))
        return kerf_real.cuArray3DCreate_v2(out, desc);
    return create((void **)out, &(struct maker){ .desc = desc, .make = make_3d_v2, .unmake = unmake_array }, array_bytes(desc, 1));
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned int levels)
{
    if (straight(out, desc))
        return kerf_real.cuMipmappedArrayCreate(out, desc, levels);
    const struct maker maker = { .desc = desc, .levels = levels, .make = make_mipmap, .unmake = unmake_mipmap };
    return create((void **)out, &maker, array_bytes(desc, levels));
}

static CUresult destroy(void *array, CUresult (*unmake)(void *))
{
    kerf_open();
    struct kerf_entry entry;
    if (!kerf_table_take(&kerf_cuda.arrays, (uint64_t)(uintptr_t)array, &entry))
        return unmake(array);
    CUresult rc = unmake(array);
    if (rc == CUDA_SUCCESS)
        kerf_release(entry.card, entry.bytes, KERF_KIND_ARRAY);
    else
        (void)!kerf_table_put(&kerf_cuda.arrays, &entry); /* the row just vacated is there */
    return rc;
}

CUresult cuArrayDestroy(CUarray array)
{
    return destroy(array, unmake_array);
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array)
{
    return destroy(array, unmake_mipmap);
}
