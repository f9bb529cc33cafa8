/*
 * Virtual memory management: physical memory lives until its last handle *and* its last mapping are
 * gone, so that is when it is given back. One lock over the driver calls keeps a handle's number
 * from being reused by another thread between the call and our record of it.
 */
#include <stdlib.h>

#include "cuda/cuda.h"

#define MAP_GRAIN (2ull << 20) /* no mapping is smaller */
#define LOOK_BACK 32768        /* x MAP_GRAIN: how far inside a mapping an address may lie */

struct physical {
    uint64_t bytes;
    int card;
    uint32_t handles;
    uint32_t maps;
};

static pthread_mutex_t vmm_lock = PTHREAD_MUTEX_INITIALIZER;

static void open_room(void)
{
    pthread_mutex_init(&vmm_lock, NULL);
}

const struct kerf_room kerf_vmm_room = { .open = open_room };

static void drop_if_gone(struct physical *memory)
{
    if (memory->handles || memory->maps)
        return;
    kerf_release(memory->card, memory->bytes, KERF_KIND_VMM);
    free(memory);
}

static bool add_handle(CUmemGenericAllocationHandle handle, struct physical *memory)
{
    struct kerf_entry entry = { .key = handle };
    (void)!kerf_table_find(&kerf_cuda.handles, handle, &entry);
    entry.object = memory;
    entry.count++;
    if (!kerf_table_put(&kerf_cuda.handles, &entry))
        return false;
    memory->handles++;
    return true;
}

static CUresult create(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags)
{
    struct kerf_charge charge;
    CUresult rc = kerf_charge_begin(&charge, prop->location.id, bytes, KERF_KIND_VMM);
    if (rc != CUDA_SUCCESS)
        return rc;
    struct physical *memory = charge.card >= 0 ? calloc(1, sizeof *memory) : NULL;
    CUmemGenericAllocationHandle handle = 0;
    pthread_mutex_lock(&vmm_lock);
    rc = charge.card >= 0 && !memory ? CUDA_ERROR_OUT_OF_MEMORY : kerf_real.cuMemCreate(&handle, bytes, prop, flags);
    if (rc == CUDA_SUCCESS && memory) {
        *memory = (struct physical){ .bytes = charge.bytes, .card = charge.card };
        if (!add_handle(handle, memory)) {
            kerf_count(KERF_EVENT_TABLE_FULL);
            kerf_real.cuMemRelease(handle);
            rc = CUDA_ERROR_OUT_OF_MEMORY;
        }
    }
    pthread_mutex_unlock(&vmm_lock);
    if (rc == CUDA_SUCCESS) {
        kerf_charge_done(&charge);
        *out = handle;
        return rc;
    }
    kerf_charge_drop(&charge);
    free(memory);
    return rc;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags)
{
    kerf_open();
    if (!out || !prop || prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE || prop->location.id < 0)
        return kerf_real.cuMemCreate(out, bytes, prop, flags);
    return create(out, bytes, prop, flags);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    kerf_open();
    if (kerf.stage < KERF_STAGE_LIVE)
        return kerf_real.cuMemRelease(handle);
    pthread_mutex_lock(&vmm_lock);
    struct kerf_entry entry;
    CUresult rc = kerf_real.cuMemRelease(handle);
    if (rc == CUDA_SUCCESS && kerf_table_take(&kerf_cuda.handles, handle, &entry)) {
        struct physical *memory = entry.object;
        memory->handles--;
        if (--entry.count)
            (void)!kerf_table_put(&kerf_cuda.handles, &entry); /* the row just vacated is there */
        drop_if_gone(memory);
    }
    pthread_mutex_unlock(&vmm_lock);
    return rc;
}

/* The mapping that holds `address`, which is usually its first byte. */
static bool mapping_at(uint64_t address, struct kerf_entry *out)
{
    if (kerf_table_find(&kerf_cuda.mappings, address, out))
        return true;
    uint64_t at = address / MAP_GRAIN * MAP_GRAIN;
    for (int i = 0; i < LOOK_BACK && at; i++, at -= MAP_GRAIN)
        if (kerf_table_find(&kerf_cuda.mappings, at, out))
            return address - at < out->bytes;
    return false;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *out, void *address)
{
    kerf_open();
    if (kerf.stage < KERF_STAGE_LIVE)
        return kerf_real.cuMemRetainAllocationHandle(out, address);
    pthread_mutex_lock(&vmm_lock);
    struct kerf_entry mapping;
    CUresult rc = kerf_real.cuMemRetainAllocationHandle(out, address);
    if (rc == CUDA_SUCCESS && mapping_at((uint64_t)(uintptr_t)address, &mapping) && !add_handle(*out, mapping.object)) {
        kerf_count(KERF_EVENT_TABLE_FULL);
        kerf_real.cuMemRelease(*out);
        rc = CUDA_ERROR_OUT_OF_MEMORY;
    }
    pthread_mutex_unlock(&vmm_lock);
    return rc;
}

CUresult cuMemMap(CUdeviceptr ptr, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    kerf_open();
    if (kerf.stage < KERF_STAGE_LIVE)
        return kerf_real.cuMemMap(ptr, bytes, offset, handle, flags);
    pthread_mutex_lock(&vmm_lock);
    struct kerf_entry entry;
    CUresult rc = kerf_real.cuMemMap(ptr, bytes, offset, handle, flags);
    if (rc == CUDA_SUCCESS && kerf_table_find(&kerf_cuda.handles, handle, &entry)) {
        struct kerf_entry mapping = { .key = ptr, .bytes = bytes, .object = entry.object };
        if (kerf_table_put(&kerf_cuda.mappings, &mapping)) {
            ((struct physical *)entry.object)->maps++;
        } else {
            kerf_count(KERF_EVENT_TABLE_FULL);
            kerf_real.cuMemUnmap(ptr, bytes);
            rc = CUDA_ERROR_OUT_OF_MEMORY;
        }
    }
    pthread_mutex_unlock(&vmm_lock);
    return rc;
}

/* One call may take away several whole mappings that stand side by side. */
CUresult cuMemUnmap(CUdeviceptr ptr, size_t bytes)
{
    kerf_open();
    if (kerf.stage < KERF_STAGE_LIVE)
        return kerf_real.cuMemUnmap(ptr, bytes);
    pthread_mutex_lock(&vmm_lock);
    CUresult rc = kerf_real.cuMemUnmap(ptr, bytes);
    for (uint64_t at = ptr; rc == CUDA_SUCCESS && at < ptr + bytes;) {
        struct kerf_entry mapping;
        if (!kerf_table_take(&kerf_cuda.mappings, at, &mapping)) {
            at += MAP_GRAIN;
            continue;
        }
        struct physical *memory = mapping.object;
        memory->maps--;
        drop_if_gone(memory);
        at += mapping.bytes ? mapping.bytes : MAP_GRAIN;
    }
    pthread_mutex_unlock(&vmm_lock);
    return rc;
}
