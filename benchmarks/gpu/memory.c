/*
 * memory KIND BLOCK_MIB [MOST_MIB]: allocates blocks until refused, then blocks of 2 MiB until refused, prints
 * the sum, waits for a line (so that the caller can read NVML), frees everything, allocates it all again, and
 * prints that sum too.
 *   {"granted": bytes, "error": code}
 *   {"again": bytes}
 * Kinds: alloc managed pitch async pool vmm vmm_released array graph.
 */
#include "gpu.h"

#define BLOCKS 65536
#define SMALLEST ((size_t)2 << 20)
static unsigned long long ids[BLOCKS], va[BLOCKS];
static size_t sizes[BLOCKS];
static CUmemoryPool pool;

static CUresult take_vmm(int i, size_t block, int release)
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

static CUresult take_graph(int i, size_t block)
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

static CUresult take_array(int i, size_t block)
{
    CUDA_ARRAY_DESCRIPTOR desc = { .Width = 16384, .Height = block / 16384 / 4, .Format = 0x20, .NumChannels = 1 };
    return cuArrayCreate_v2((CUarray *)&ids[i], &desc);
}

static CUresult take(const char *kind, int i, size_t block)
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
        return take_vmm(i, block, !strcmp(kind, "vmm_released"));
    return !strcmp(kind, "array") ? take_array(i, block) : take_graph(i, block);
}

static void give(const char *kind, int i)
{
    if (!strcmp(kind, "async") || !strcmp(kind, "pool")) {
        must(cuMemFreeAsync(ids[i], NULL), "cuMemFreeAsync");
    } else if (!strncmp(kind, "vmm", 3)) {
        must(cuMemUnmap(va[i], sizes[i]), "cuMemUnmap");
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

struct fill {
    const char *kind;
    size_t most;
    unsigned long long bytes;
    int count, error; /* error: the last refusal, or the first one that was not out of memory */
};

static void fill_with(struct fill *fill, size_t block)
{
    CUresult rc = CUDA_SUCCESS;
    while (fill->count < BLOCKS && fill->bytes + block <= fill->most && !(rc = take(fill->kind, fill->count, block))) {
        sizes[fill->count++] = block;
        fill->bytes += block;
    }
    if (!fill->error || fill->error == CUDA_ERROR_OUT_OF_MEMORY)
        fill->error = rc;
}

static struct fill fill(const char *kind, size_t block, size_t most)
{
    struct fill taken = { .kind = kind, .most = most };
    fill_with(&taken, block);
    if (block > SMALLEST)
        fill_with(&taken, SMALLEST);
    return taken;
}

int main(int argc, char **argv)
{
    CUmemPoolProps props = { .allocType = 1, .location = { CU_MEM_LOCATION_TYPE_DEVICE, 0 } };
    char line[16];
    size_t block = (size_t)atoi(argv[2]) << 20;
    size_t most = argc > 3 ? (size_t)atoi(argv[3]) << 20 : (size_t)1 << 46;
    open_card();
    if (!strcmp(argv[1], "pool"))
        must(cuMemPoolCreate(&pool, &props), "cuMemPoolCreate");
    struct fill taken = fill(argv[1], block, most);
    cuCtxSynchronize();
    printf("{\"granted\": %llu, \"error\": %d}\n", taken.bytes, taken.error);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 0;
    while (taken.count)
        give(argv[1], --taken.count);
    cuCtxSynchronize();
    if (!strcmp(argv[1], "graph"))
        must(cuDeviceGraphMemTrim(0), "cuDeviceGraphMemTrim");
    printf("{\"again\": %llu}\n", fill(argv[1], block, most).bytes);
    return 0;
}
