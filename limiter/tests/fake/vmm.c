/* The fake driver's virtual memory management: physical memory, handles to it, mappings of it. */
#include <stdlib.h>

#include "driver.h"

#define PAGE (2u << 20)

struct physical {
    uint64_t bytes;
    int card; /* -1: on the host */
    int handles, maps;
};

struct mapping {
    CUdeviceptr at;
    size_t bytes;
    struct physical *memory;
    struct mapping *next;
};

static struct mapping *mappings;

static void drop(struct physical *memory)
{
    if (memory->handles || memory->maps)
        return;
    if (memory->card >= 0)
        fake_give_memory(memory->card, memory->bytes);
    free(memory);
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *out, size_t bytes, const CUmemAllocationProp *prop, unsigned long long flags)
{
    int failure = fake_failure();
    if (failure)
        return failure;
    if (!out || !prop || !bytes || bytes % PAGE || flags || fake_physical(prop->location.id) < 0)
        return CUDA_ERROR_INVALID_VALUE;
    struct physical *memory = calloc(1, sizeof *memory);
    bool on_card = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    *memory = (struct physical){ .bytes = bytes, .card = on_card ? fake_physical(prop->location.id) : -1, .handles = 1 };
    if (on_card && !fake_take_memory(memory->card, bytes)) {
        free(memory);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = (CUmemGenericAllocationHandle)(uintptr_t)memory;
    return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    struct physical *memory = (struct physical *)(uintptr_t)handle;
    if (!memory || memory->handles <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    memory->handles--;
    drop(memory);
    return CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr address, unsigned long long flags)
{
    static CUdeviceptr next = 0x700000000000ull;
    (void)alignment; (void)address; (void)flags;
    *out = __atomic_fetch_add(&next, (bytes + PAGE - 1) / PAGE * PAGE, __ATOMIC_RELAXED);
    return CUDA_SUCCESS;
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t bytes)
{
    (void)ptr; (void)bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr ptr, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle, unsigned long long flags)
{
    struct physical *memory = (struct physical *)(uintptr_t)handle;
    (void)flags;
    if (!memory || memory->handles <= 0 || offset + bytes > memory->bytes)
        return CUDA_ERROR_INVALID_VALUE;
    struct mapping *mapping = calloc(1, sizeof *mapping);
    *mapping = (struct mapping){ .at = ptr, .bytes = bytes, .memory = memory, .next = mappings };
    mappings = mapping;
    memory->maps++;
    return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t bytes)
{
    bool any = false;
    for (struct mapping **at = &mappings; *at;) {
        struct mapping *mapping = *at;
        if (mapping->at < ptr || mapping->at + mapping->bytes > ptr + bytes) {
            at = &mapping->next;
            continue;
        }
        any = true;
        *at = mapping->next;
        mapping->memory->maps--;
        drop(mapping->memory);
        free(mapping);
    }
    return any ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *out, void *address)
{
    CUdeviceptr at = (CUdeviceptr)(uintptr_t)address;
    for (struct mapping *mapping = mappings; mapping; mapping = mapping->next) {
        if (at < mapping->at || at >= mapping->at + mapping->bytes)
            continue;
        mapping->memory->handles++;
        *out = (CUmemGenericAllocationHandle)(uintptr_t)mapping->memory;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}
