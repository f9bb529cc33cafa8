/*
 * Stream-ordered memory. A pool is charged for what it holds reserved, not for single blocks: the
 * likely growth is reserved before the call, and settled with the driver's own figure after it.
 */
#include <stdlib.h>

#include "cuda/cuda.h"

struct kerf_pool {
    CUmemoryPool handle; /* NULL once destroyed */
    int card;
    uint64_t charged; /* bytes of the ledger this pool holds, `pending` included */
    uint64_t pending; /* reserved for allocations now inside the driver */
    uint64_t live;    /* bytes of blocks handed out and not yet freed by the application */
    struct kerf_pool *next;
};

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kerf_pool *pools;

static void open_room(void)
{
    pthread_mutex_init(&pool_lock, NULL);
    pools = NULL;
}

const struct kerf_room kerf_pool_room = { .open = open_room };

static struct kerf_pool *find(CUmemoryPool handle)
{
    struct kerf_pool *pool = pools;
    while (pool && pool->handle != handle)
        pool = pool->next;
    return pool;
}

static struct kerf_pool *find_or_add(CUmemoryPool handle, int card)
{
    pthread_mutex_lock(&pool_lock);
    struct kerf_pool *pool = find(handle);
    if (!pool && (pool = calloc(1, sizeof *pool))) {
        pool->handle = handle;
        pool->card = card;
        pool->next = pools;
        __atomic_store_n(&pools, pool, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&pool_lock);
    return pool;
}

/* Brings the charge in line with what the pool holds; false when it holds more than may be charged. */
static bool settle(struct kerf_pool *pool)
{
    uint64_t reserved = pool->live;
    if (pool->handle &&
        kerf_real.cuMemPoolGetAttribute(pool->handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS)
        reserved = pool->live;
    uint64_t want = reserved + pool->pending;
    if (want > pool->charged && !kerf_reserve_plain(pool->card, want - pool->charged, KERF_KIND_POOL))
        return false;
    if (want < pool->charged)
        kerf_release(pool->card, pool->charged - want, KERF_KIND_POOL);
    pool->charged = want;
    return true;
}

void kerf_pools_refresh(bool trim)
{
    if (!__atomic_load_n(&pools, __ATOMIC_ACQUIRE))
        return;
    int saved;
    kerf_relaxed_begin(&saved);
    pthread_mutex_lock(&pool_lock);
    for (struct kerf_pool *pool = pools; pool; pool = pool->next) {
        if (trim && pool->handle && pool->charged > pool->live)
            kerf_real.cuMemPoolTrimTo(pool->handle, 0);
        (void)!settle(pool);
    }
    pthread_mutex_unlock(&pool_lock);
    kerf_relaxed_end(&saved);
}

void kerf_pools_reclaim(void)
{
    kerf_pools_refresh(true);
}

/* Reserves what the pool will likely grow by. */
static bool reserve_growth(struct kerf_pool *pool, uint64_t bytes, uint64_t *growth)
{
    pthread_mutex_lock(&pool_lock);
    uint64_t need = pool->live + pool->pending + bytes;
    *growth = need > pool->charged ? kerf_round(need - pool->charged) : 0;
    pthread_mutex_unlock(&pool_lock);
    kerf_pending_add(pool->card, *growth);
    if (*growth && !kerf_reserve(pool->card, *growth, KERF_KIND_POOL)) {
        kerf_pending_take(pool->card, *growth);
        return false;
    }
    pthread_mutex_lock(&pool_lock);
    pool->charged += *growth;
    pool->pending += *growth;
    pthread_mutex_unlock(&pool_lock);
    return true;
}

static bool settle_growth(struct kerf_pool *pool, uint64_t bytes, uint64_t growth, bool allocated)
{
    pthread_mutex_lock(&pool_lock);
    pool->pending -= growth;
    pool->live += allocated ? bytes : 0;
    bool ok = settle(pool);
    pool->live -= allocated && !ok ? bytes : 0;
    kerf_pending_take(pool->card, growth);
    pthread_mutex_unlock(&pool_lock);
    return ok;
}

/* The pool grew by more than is left in the slice: hand the block back and let the pool shrink. */
static void undo(struct kerf_pool *pool, CUdeviceptr ptr, CUstream stream)
{
    kerf_real.cuMemFreeAsync(ptr, stream);
    kerf_real.cuStreamSynchronize(stream);
    kerf_real.cuMemPoolTrimTo(pool->handle, 0);
    pthread_mutex_lock(&pool_lock);
    if (!settle(pool)) {
        uint64_t reserved = 0;
        kerf_real.cuMemPoolGetAttribute(pool->handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved);
        if (reserved > pool->charged) {
            kerf_force(pool->card, reserved - pool->charged, KERF_KIND_POOL);
            pool->charged = reserved;
        }
    }
    pthread_mutex_unlock(&pool_lock);
}

struct request {
    size_t bytes;
    CUmemoryPool pool; /* NULL: the device's current pool, by cuMemAllocAsync */
    CUstream stream;
    CUresult (*plain)(CUdeviceptr *, size_t, CUstream);
    CUresult (*from_pool)(CUdeviceptr *, size_t, CUmemoryPool, CUstream);
};

static CUresult call(const struct request *request, CUdeviceptr *out)
{
    return request->pool ? request->from_pool(out, request->bytes, request->pool, request->stream)
                         : request->plain(out, request->bytes, request->stream);
}

static struct kerf_pool *pool_of(const struct request *request)
{
    CUdevice device = kerf_current_device();
    CUmemoryPool handle = request->pool;
    int card = kerf_card_of(device);
    if (device < 0 || (!handle && kerf_real.cuDeviceGetMemPool(&handle, device) != CUDA_SUCCESS))
        return NULL;
    kerf_overhead_context(card);
    return find_or_add(handle, card);
}

static CUresult keep(struct kerf_pool *pool, const struct request *request, CUdeviceptr ptr)
{
    struct kerf_entry entry = { .key = ptr, .bytes = request->bytes, .object = pool, .card = (int16_t)pool->card, .kind = KERF_KIND_POOL };
    if (kerf_table_put(&kerf_cuda.pointers, &entry))
        return CUDA_SUCCESS;
    kerf_count(KERF_EVENT_TABLE_FULL);
    kerf_real.cuMemFreeAsync(ptr, request->stream);
    kerf_pool_freed(pool, request->bytes);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult alloc(CUdeviceptr *out, const struct request *request)
{
    kerf_open();
    if (!out)
        return call(request, out);
    if (!kerf_go_live())
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (__atomic_load_n(&kerf_cuda.capturing, __ATOMIC_ACQUIRE) > 0 && kerf_stream_captures(request->stream)) {
        CUresult rc = call(request, out);
        if (rc == CUDA_SUCCESS)
            kerf_graph_captured_alloc(request->stream, request->bytes);
        return rc;
    }
    struct kerf_pool *pool = pool_of(request);
    if (!pool || pool->card == KERF_NO_CARD)
        return call(request, out);
    uint64_t growth;
    if (pool->card == KERF_UNKNOWN_CARD || !reserve_growth(pool, request->bytes, &growth))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUdeviceptr ptr = 0;
    kerf_growing_begin(pool->card);
    CUresult rc = call(request, &ptr);
    bool fits = settle_growth(pool, request->bytes, growth, rc == CUDA_SUCCESS);
    if (rc == CUDA_SUCCESS && !fits) {
        undo(pool, ptr, request->stream);
        rc = CUDA_ERROR_OUT_OF_MEMORY;
    }
    kerf_growing_end(pool->card);
    if (rc == CUDA_SUCCESS)
        rc = keep(pool, request, ptr);
    if (rc == CUDA_SUCCESS)
        *out = ptr;
    return rc;
}

void kerf_pool_freed(void *object, uint64_t bytes)
{
    struct kerf_pool *pool = object;
    pthread_mutex_lock(&pool_lock);
    pool->live -= bytes < pool->live ? bytes : pool->live;
    if (!pool->handle)
        (void)!settle(pool);
    pthread_mutex_unlock(&pool_lock);
}

static CUresult free_async(CUdeviceptr ptr, CUstream stream, CUresult (*call_free)(CUdeviceptr, CUstream))
{
    struct kerf_entry entry;
    bool known = kerf_pointer_take(ptr, &entry);
    CUresult rc = call_free(ptr, stream);
    return known ? kerf_pointer_freed(rc, &entry) : rc;
}

CUresult cuMemAllocAsync(CUdeviceptr *out, size_t bytes, CUstream stream)
{
    kerf_open();
    return alloc(out, &(struct request){ .bytes = bytes, .stream = stream, .plain = kerf_real.cuMemAllocAsync });
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *out, size_t bytes, CUstream stream)
{
    kerf_open();
    return alloc(out, &(struct request){ .bytes = bytes, .stream = stream ? stream : CU_STREAM_PER_THREAD, .plain = kerf_real.cuMemAllocAsync_ptsz });
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t bytes, CUmemoryPool pool, CUstream stream)
{
    kerf_open();
    if (!pool)
        return kerf_real.cuMemAllocFromPoolAsync(out, bytes, pool, stream);
    return alloc(out, &(struct request){ .bytes = bytes, .pool = pool, .stream = stream, .from_pool = kerf_real.cuMemAllocFromPoolAsync });
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *out, size_t bytes, CUmemoryPool pool, CUstream stream)
{
    kerf_open();
    if (!pool)
        return kerf_real.cuMemAllocFromPoolAsync_ptsz(out, bytes, pool, stream);
    stream = stream ? stream : CU_STREAM_PER_THREAD;
    return alloc(out, &(struct request){ .bytes = bytes, .pool = pool, .stream = stream, .from_pool = kerf_real.cuMemAllocFromPoolAsync_ptsz });
}

CUresult cuMemFreeAsync(CUdeviceptr ptr, CUstream stream)
{
    kerf_open();
    return free_async(ptr, stream, kerf_real.cuMemFreeAsync);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr ptr, CUstream stream)
{
    kerf_open();
    return free_async(ptr, stream, kerf_real.cuMemFreeAsync_ptsz);
}

CUresult cuMemPoolCreate(CUmemoryPool *out, const CUmemPoolProps *props)
{
    kerf_open();
    CUresult rc = kerf_real.cuMemPoolCreate(out, props);
    if (rc == CUDA_SUCCESS && kerf.stage >= KERF_STAGE_OPEN) {
        bool on_card = props->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
        find_or_add(*out, on_card ? kerf_card_of(props->location.id) : KERF_NO_CARD);
    }
    return rc;
}

/* Blocks may outlive their pool: from here on it is charged for them alone. */
CUresult cuMemPoolDestroy(CUmemoryPool handle)
{
    kerf_open();
    if (kerf.stage < KERF_STAGE_LIVE)
        return kerf_real.cuMemPoolDestroy(handle);
    pthread_mutex_lock(&pool_lock);
    CUresult rc = kerf_real.cuMemPoolDestroy(handle);
    struct kerf_pool *pool = rc == CUDA_SUCCESS && handle ? find(handle) : NULL;
    if (pool) {
        pool->handle = NULL;
        (void)!settle(pool);
    }
    pthread_mutex_unlock(&pool_lock);
    return rc;
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t keep_bytes)
{
    kerf_open();
    CUresult rc = kerf_real.cuMemPoolTrimTo(handle, keep_bytes);
    if (kerf.stage == KERF_STAGE_LIVE)
        kerf_pools_refresh(false);
    return rc;
}
