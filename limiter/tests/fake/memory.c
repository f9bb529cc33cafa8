/* The fake driver's memory: every kind of allocation, counted the driver's way. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

#define MAGIC 0x6b657266u

/* One allocation. Its address is what the caller gets, so freeing looks nothing up. */
struct block {
    uint32_t magic;
    int card;
    uint64_t bytes;
    struct CUmemPoolHandle_st *pool;
    struct block *next, *prev; /* of the same context, so that destroying it frees them */
};

struct CUmemPoolHandle_st {
    int card;
    uint64_t used, reserved, threshold;
    bool destroyed;
};

static struct CUmemPoolHandle_st default_pools[FAKE_CARDS];
static struct CUmemPoolHandle_st *current_pools[FAKE_CARDS];
static struct block *blocks[FAKE_CARDS];
static struct block *spare;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t round_up(uint64_t bytes, uint64_t grain)
{
    return (bytes + grain - 1) / grain * grain;
}

static uint64_t physical_bytes(uint64_t bytes)
{
    return bytes > (1u << 20) ? round_up(bytes, 2u << 20) : round_up(bytes, 512);
}

static CUresult add_block(struct block **out, int card, uint64_t bytes)
{
    int failure = fake_failure();
    if (failure)
        return failure;
    if (card < 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    uint64_t stall_ms = fake_setting("FAKE_STALL_MS", 0);
    if (stall_ms)
        usleep((useconds_t)stall_ms * 1000);
    if (!fake_take_memory(card, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    struct block *block = spare;
    if (block)
        spare = block->next;
    else
        block = aligned_alloc(64, 64);
    *block = (struct block){ .magic = MAGIC, .card = card, .bytes = bytes, .next = blocks[card] };
    if (blocks[card])
        blocks[card]->prev = block;
    blocks[card] = block;
    pthread_mutex_unlock(&lock);
    *out = block;
    return CUDA_SUCCESS;
}

/* Freed blocks are handed out again first: addresses come back, as with a real driver. */
static void remove_block(struct block *block)
{
    fake_give_memory(block->card, block->bytes);
    pthread_mutex_lock(&lock);
    block->magic = 0;
    if (block->next)
        block->next->prev = block->prev;
    if (block->prev)
        block->prev->next = block->next;
    else
        blocks[block->card] = block->next;
    block->next = spare;
    spare = block;
    pthread_mutex_unlock(&lock);
}

static struct block *block_of(CUdeviceptr ptr)
{
    struct block *block = (struct block *)(uintptr_t)ptr;
    return ptr > 4096 && ptr % 64 == 0 && block->magic == MAGIC ? block : NULL;
}

void fake_drop_context(int card)
{
    while (blocks[card])
        remove_block(blocks[card]);
}

CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes)
{
    if (!out || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    struct block *block;
    CUresult rc = add_block(&block, fake_current_card(), physical_bytes(bytes));
    if (rc == CUDA_SUCCESS)
        *out = (CUdeviceptr)(uintptr_t)block;
    return rc;
}

/* Old 32-bit pointers: the block is real, its address does not fit. */
CUresult cuMemAlloc(CUdeviceptr_v1 *out, unsigned int bytes)
{
    CUdeviceptr wide;
    CUresult rc = cuMemAlloc_v2(&wide, bytes);
    if (rc == CUDA_SUCCESS)
        *out = (CUdeviceptr_v1)wide;
    return rc;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height, unsigned int element)
{
    uint64_t bytes;
    if (!out || !pitch || !width || !height || (element != 4 && element != 8 && element != 16))
        return CUDA_ERROR_INVALID_VALUE;
    if (width > UINT64_MAX - 512 || __builtin_mul_overflow(round_up(width, 512), height, &bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    *pitch = round_up(width, 512);
    return cuMemAlloc_v2(out, bytes);
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *out, unsigned int *pitch, unsigned int width, unsigned int height, unsigned int element)
{
    CUdeviceptr wide;
    size_t wide_pitch;
    CUresult rc = cuMemAllocPitch_v2(&wide, &wide_pitch, width, height, element);
    if (rc == CUDA_SUCCESS) {
        *out = (CUdeviceptr_v1)wide;
        *pitch = (unsigned)wide_pitch;
    }
    return rc;
}

CUresult cuMemAllocManaged(CUdeviceptr *out, size_t bytes, unsigned int flags)
{
    return flags == 1 || flags == 2 ? cuMemAlloc_v2(out, bytes) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemFree_v2(CUdeviceptr ptr)
{
    if (!ptr || fake_free_node(ptr))
        return CUDA_SUCCESS;
    struct block *block = block_of(ptr);
    if (!block)
        return CUDA_ERROR_INVALID_VALUE;
    if (block->pool) {
        block->pool->used -= block->bytes;
        block->bytes = 0; /* its bytes are the pool's */
    }
    remove_block(block);
    return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr_v1 ptr)
{
    return cuMemFree_v2(ptr);
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    int card = fake_current_card();
    if (card < 0 || !free_bytes || !total)
        return card < 0 ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_VALUE;
    *total = fake_world->card[card].total;
    *free_bytes = *total - fake_live_bytes(card);
    return CUDA_SUCCESS;
}

CUresult cuMemGetInfo(unsigned int *free_bytes, unsigned int *total)
{
    size_t wide_free, wide_total;
    CUresult rc = cuMemGetInfo_v2(&wide_free, &wide_total);
    if (rc == CUDA_SUCCESS) {
        *free_bytes = wide_free > UINT32_MAX ? UINT32_MAX : (unsigned)wide_free;
        *total = wide_total > UINT32_MAX ? UINT32_MAX : (unsigned)wide_total;
    }
    return rc;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    if (!bytes || fake_physical(device) < 0)
        return CUDA_ERROR_INVALID_VALUE;
    *bytes = fake_world->card[fake_physical(device)].total;
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice device)
{
    size_t wide;
    CUresult rc = cuDeviceTotalMem_v2(&wide, device);
    if (rc == CUDA_SUCCESS)
        *bytes = wide > UINT32_MAX ? UINT32_MAX : (unsigned)wide;
    return rc;
}

static CUresult grow(struct CUmemPoolHandle_st *pool, uint64_t bytes)
{
    uint64_t step = fake_setting("FAKE_POOL_MIB", 2) << 20;
    if (pool->used + bytes <= pool->reserved)
        return CUDA_SUCCESS;
    uint64_t more = round_up(pool->used + bytes - pool->reserved, step);
    if (!fake_take_memory(pool->card, more))
        return CUDA_ERROR_OUT_OF_MEMORY;
    pool->reserved += more;
    fake_linger();
    return CUDA_SUCCESS;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, CUmemoryPool pool, CUstream stream)
{
    if (!out || !bytes || !pool || pool->destroyed)
        return CUDA_ERROR_INVALID_VALUE;
    CUdeviceptr node = fake_capture_alloc(stream, bytes);
    if (node) {
        *out = node;
        return CUDA_SUCCESS;
    }
    bytes = round_up(bytes, 512);
    CUresult rc = grow(pool, bytes);
    if (rc != CUDA_SUCCESS)
        return rc;
    struct block *block;
    rc = add_block(&block, pool->card, 0);
    if (rc != CUDA_SUCCESS)
        return rc;
    pool->used += bytes;
    block->bytes = bytes;
    block->pool = pool;
    *out = (CUdeviceptr)(uintptr_t)block;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *out, size_t bytes, CUmemoryPool pool, CUstream stream)
{
    return cuMemAllocFromPoolAsync(out, bytes, pool, stream);
}

CUresult cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device)
{
    int card = fake_physical(device);
    if (card < 0)
        return 101;
    default_pools[card].card = card;
    *pool = current_pools[card] ? current_pools[card] : &default_pools[card];
    return CUDA_SUCCESS;
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool)
{
    current_pools[fake_physical(device)] = pool;
    return CUDA_SUCCESS;
}

CUresult cuMemAllocAsync(CUdeviceptr *out, size_t bytes, CUstream stream)
{
    CUmemoryPool pool;
    CUdevice device;
    CUresult rc = cuCtxGetDevice(&device);
    if (rc == CUDA_SUCCESS)
        rc = cuDeviceGetMemPool(&pool, device);
    return rc == CUDA_SUCCESS ? cuMemAllocFromPoolAsync(out, bytes, pool, stream) : rc;
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *out, size_t bytes, CUstream stream) { return cuMemAllocAsync(out, bytes, stream); }

CUresult cuMemFreeAsync(CUdeviceptr ptr, CUstream stream)
{
    (void)stream;
    return cuMemFree_v2(ptr);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr ptr, CUstream stream) { return cuMemFreeAsync(ptr, stream); }

CUresult cuMemPoolCreate(CUmemoryPool *out, const CUmemPoolProps *props)
{
    if (!out || !props)
        return CUDA_ERROR_INVALID_VALUE;
    *out = calloc(1, sizeof **out);
    (*out)->card = fake_physical(props->location.id);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep)
{
    uint64_t floor = pool->used > keep ? pool->used : keep;
    floor = round_up(floor, fake_setting("FAKE_POOL_MIB", 2) << 20);
    if (pool->reserved > floor) {
        fake_give_memory(pool->card, pool->reserved - floor);
        pool->reserved = floor;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
    if (!pool || pool->destroyed)
        return CUDA_ERROR_INVALID_VALUE;
    cuMemPoolTrimTo(pool, 0);
    pool->destroyed = true;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    if (attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
        *(uint64_t *)value = pool->reserved;
    else if (attribute == CU_MEMPOOL_ATTR_USED_MEM_CURRENT)
        *(uint64_t *)value = pool->used;
    else
        return CUDA_ERROR_INVALID_VALUE;
    return pool->destroyed ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    if (attribute != CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)
        return CUDA_ERROR_INVALID_VALUE;
    pool->threshold = *(uint64_t *)value;
    return CUDA_SUCCESS;
}

static unsigned format_bytes(int format)
{
    switch (format) {
    case 0x01: case 0x08: return 1;
    case 0x02: case 0x09: case 0x10: return 2;
    default: return 4;
    }
}

static CUresult make_array(void **out, const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned levels)
{
    if (!out || !desc || !desc->Width)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t sum = 0;
    for (unsigned level = 0; level < levels; level++) {
        uint64_t w = desc->Width >> level, h = desc->Height >> level, d = desc->Depth >> level;
        sum += (uint64_t)format_bytes(desc->Format) * desc->NumChannels * (w ? w : 1) * (h ? h : 1) * (d ? d : 1);
    }
    struct block *block;
    CUresult rc = add_block(&block, fake_current_card(), desc->Flags & CUDA_ARRAY3D_SPARSE ? 0 : round_up(sum, 65536));
    if (rc == CUDA_SUCCESS)
        *out = block;
    return rc;
}

CUresult cuArray3DCreate_v2(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc) { return make_array((void **)out, desc, 1); }

CUresult cuArrayCreate_v2(CUarray *out, const CUDA_ARRAY_DESCRIPTOR *desc)
{
    if (!desc)
        return CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR wide = { .Width = desc->Width, .Height = desc->Height, .Format = desc->Format, .NumChannels = desc->NumChannels };
    return make_array((void **)out, &wide, 1);
}

CUresult cuArrayCreate(CUarray *out, const CUDA_ARRAY_DESCRIPTOR_v1 *desc)
{
    CUDA_ARRAY3D_DESCRIPTOR wide = { .Width = desc->Width, .Height = desc->Height, .Format = desc->Format, .NumChannels = desc->NumChannels };
    return make_array((void **)out, &wide, 1);
}

CUresult cuArray3DCreate(CUarray *out, const CUDA_ARRAY3D_DESCRIPTOR_v1 *desc)
{
    CUDA_ARRAY3D_DESCRIPTOR wide = { desc->Width, desc->Height, desc->Depth, desc->Format, desc->NumChannels, desc->Flags };
    return make_array((void **)out, &wide, 1);
}

CUresult cuArrayDestroy(CUarray array) { return array ? cuMemFree_v2((CUdeviceptr)(uintptr_t)array) : CUDA_ERROR_INVALID_HANDLE; }
CUresult cuMipmappedArrayCreate(CUmipmappedArray *out, const CUDA_ARRAY3D_DESCRIPTOR *desc, unsigned int levels) { return make_array((void **)out, desc, levels); }
CUresult cuMipmappedArrayDestroy(CUmipmappedArray array) { return array ? cuMemFree_v2((CUdeviceptr)(uintptr_t)array) : CUDA_ERROR_INVALID_HANDLE; }
