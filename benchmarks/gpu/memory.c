/*
 * memory KIND BLOCK_MIB: takes blocks until refused, says what it got, waits for a line (so that the
 * caller can look at NVML), frees everything, takes it all again, and says that too.
 *   {"granted": bytes, "error": code, "again": bytes}
 * Kinds: alloc managed pitch async pool vmm vmm_released array graph.
 */
#include "gpu.h"

#define BLOCKS 65536
static unsigned long long ids[BLOCKS], va[BLOCKS];
static CUmemoryPool pool;
static size_t block;

static CUresult take_vmm(int i, int release)
{
    CUmemAllocationProp prop = { .type = 1, .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
    CUresult rc = cuMemCreate(&ids[i], block, &prop, 0);
    if (rc == CUDA_SUCCESS)
        rc = cuMemAddressReserve(&va[i], block, 0, 0, 0);
    if (rc == CUDA_SUCCESS)
        rc = cuMemMap(va[i], block, 0, ids[i], 0);
    if (rc == CUDA_SUCCESS && release)
        must(cuMemRelease(ids[i]), "cuMemRelease");
    return rc;
}

static CUresult take_graph(int i)
{
    CUDA_MEM_ALLOC_NODE_PARAMS params = { .bytesize = block };
    CUgraph graph;
    CUgraphNode node;
    params.poolProps.allocType = 1;
    params.poolProps.location = (CUmemLocation){ CU_MEM_LOCATION_TYPE_DEVICE, 0 };
    must(cuGraphCreate(&graph, 0), "cuGraphCreate");
    must(cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params), "cuGraphAddMemAllocNode");
    CUresult rc = cuGraphInstantiateWithFlags((CUgraphExec *)&ids[i], graph, 0);
    if (rc == CUDA_SUCCESS)
        rc = cuGraphLaunch((CUgraphExec)(uintptr_t)ids[i], NULL);
    cuCtxSynchronize();
    va[i] = params.dptr;
    return rc;
}

static CUresult take_array(int i)
{
    CUDA_ARRAY_DESCRIPTOR desc = { .Width = 16384, .Height = block / 16384 / 4, .Format = 0x20, .NumChannels = 1 };
    return cuArrayCreate_v2((CUarray *)&ids[i], &desc);
}

static CUresult take(const char *kind, int i)
{
    size_t pitch;
    if (!strcmp(kind, "alloc"))
        return cuMemAlloc_v2(&ids[i], block);
    if (!strcmp(kind, "managed"))
        return cuMemAllocManaged(&ids[i], block, 1);
    if (!strcmp(kind, "pitch"))
        return cuMemAllocPitch_v2(&ids[i], &pitch, 16384, block / 16384, 4);
    if (!strcmp(kind, "async"))
        return cuMemAllocAsync(&ids[i], block, NULL);
    if (!strcmp(kind, "pool"))
        return cuMemAllocFromPoolAsync(&ids[i], block, pool, NULL);
    if (!strncmp(kind, "vmm", 3))
        return take_vmm(i, !strcmp(kind, "vmm_released"));
    return !strcmp(kind, "array") ? take_array(i) : take_graph(i);
}

static void give(const char *kind, int i)
{
    if (!strcmp(kind, "async") || !strcmp(kind, "pool")) {
        must(cuMemFreeAsync(ids[i], NULL), "cuMemFreeAsync");
    } else if (!strncmp(kind, "vmm", 3)) {
        must(cuMemUnmap(va[i], block), "cuMemUnmap");
        if (!strcmp(kind, "vmm"))
            must(cuMemRelease(ids[i]), "cuMemRelease");
    } else if (!strcmp(kind, "array")) {
        must(cuArrayDestroy((CUarray)(uintptr_t)ids[i]), "cuArrayDestroy");
    } else if (!strcmp(kind, "graph")) {
        must(cuMemFreeAsync(va[i], NULL), "cuMemFreeAsync");
        must(cuGraphExecDestroy((CUgraphExec)(uintptr_t)ids[i]), "cuGraphExecDestroy");
    } else {
        must(cuMemFree_v2(ids[i]), "cuMemFree");
    }
}

/* Bytes taken before the first refusal. */
static unsigned long long fill(const char *kind, size_t most, int *count, int *error)
{
    *count = 0;
    *error = 0;
    while (*count < BLOCKS && (unsigned long long)*count * block < most && !(*error = take(kind, *count)))
        (*count)++;
    return (unsigned long long)*count * block;
}

int main(int argc, char **argv)
{
    CUmemPoolProps props = { .allocType = 1, .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
    char line[16];
    int count, error, error_again;
    block = (size_t)atoi(argv[2]) << 20;
    size_t most = argc > 3 ? (size_t)atoi(argv[3]) << 20 : (size_t)1 << 46;
    open_card();
    if (!strcmp(argv[1], "pool"))
        must(cuMemPoolCreate(&pool, &props), "cuMemPoolCreate");
    unsigned long long granted = fill(argv[1], most, &count, &error);
    cuCtxSynchronize();
    printf("{\"granted\": %llu, \"error\": %d}\n", granted, error);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 0;
    while (count)
        give(argv[1], --count);
    cuCtxSynchronize();
    if (!strcmp(argv[1], "graph"))
        must(cuDeviceGraphMemTrim(0), "cuDeviceGraphMemTrim");
    printf("{\"again\": %llu}\n", fill(argv[1], most, &count, &error_again));
    return 0;
}
