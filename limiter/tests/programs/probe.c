/*
 * A program that does to the GPU what its standard input says, one line a call, and answers each
 * with one line: the driver's return code and the results. tests/limiter drives it.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

#define IDS 4096
#define UNTOUCHED 0xabababababababull
static unsigned long long ids[IDS]; /* pointers, handles, pools, arrays, graphs by the caller's number */
static unsigned long long a, b, c, d;
static CUstream streams[8];

static CUresult with_context(unsigned device)
{
    CUcontext ctx;
    CUresult rc = cuInit(0);
    if (rc == CUDA_SUCCESS)
        rc = cuDevicePrimaryCtxRetain(&ctx, (CUdevice)device);
    return rc == CUDA_SUCCESS ? cuCtxSetCurrent(ctx) : rc;
}

static CUresult own_context(unsigned device)
{
    CUcontext ctx;
    CUresult rc = cuInit(0);
    return rc == CUDA_SUCCESS ? cuCtxCreate_v2(&ctx, 0, (CUdevice)device) : rc;
}

/* Keeps the pointer out of sight until the call is over, to see that a refusal leaves it alone. */
static void answer(CUresult rc, unsigned long long id, const unsigned long long *out)
{
    unsigned long long value = *out;
    if (rc == CUDA_SUCCESS)
        ids[id] = value;
    printf("%d %s\n", rc, rc != CUDA_SUCCESS && value != UNTOUCHED ? "touched" : "ok");
}

static void do_alloc(const char *verb)
{
    CUdeviceptr ptr = UNTOUCHED;
    CUresult rc = CUDA_ERROR_NOT_SUPPORTED;
    size_t pitch = 0;
    if (!strcmp(verb, "alloc"))
        rc = cuMemAlloc_v2(&ptr, b);
    else if (!strcmp(verb, "managed"))
        rc = cuMemAllocManaged(&ptr, b, 1);
    else if (!strcmp(verb, "pitch"))
        rc = cuMemAllocPitch_v2(&ptr, &pitch, b, c, 4);
    else if (!strcmp(verb, "async"))
        rc = cuMemAllocAsync(&ptr, b, streams[c]);
    else if (!strcmp(verb, "async_ptsz"))
        rc = cuMemAllocAsync_ptsz(&ptr, b, NULL);
    else if (!strcmp(verb, "frompool"))
        rc = cuMemAllocFromPoolAsync(&ptr, b, (CUmemoryPool)(uintptr_t)ids[c], NULL);
    answer(rc, a, &ptr);
}

static void do_array(const char *verb)
{
    CUDA_ARRAY3D_DESCRIPTOR desc = { .Width = b, .Height = c, .Depth = d, .Format = 0x20, .NumChannels = 1 };
    CUDA_ARRAY_DESCRIPTOR flat = { .Width = b, .Height = c, .Format = 0x20, .NumChannels = 1 };
    unsigned long long out = UNTOUCHED;
    CUresult rc;
    if (!strcmp(verb, "array"))
        rc = cuArrayCreate_v2((CUarray *)&out, &flat);
    else if (!strcmp(verb, "array3d"))
        rc = cuArray3DCreate_v2((CUarray *)&out, &desc);
    else if (!strcmp(verb, "sparse"))
        desc.Flags = CUDA_ARRAY3D_SPARSE, rc = cuArray3DCreate_v2((CUarray *)&out, &desc);
    else
        rc = cuMipmappedArrayCreate((CUmipmappedArray *)&out, &desc, 3);
    answer(rc, a, &out);
}

static void do_vmm(const char *verb)
{
    CUmemAllocationProp prop = { .type = 1, .location = { CU_MEM_LOCATION_TYPE_DEVICE, (int)c } };
    unsigned long long out = UNTOUCHED;
    if (!strcmp(verb, "create")) {
        answer(cuMemCreate(&out, b, &prop, 0), a, &out);
    } else if (!strcmp(verb, "hostcreate")) {
        prop.location.type = CU_MEM_LOCATION_TYPE_HOST;
        prop.location.id = 0;
        answer(cuMemCreate(&out, b, &prop, 0), a, &out);
    } else if (!strcmp(verb, "map")) { /* map VA-id HANDLE-id BYTES */
        CUresult rc = cuMemAddressReserve(&out, c, 0, 0, 0);
        if (rc == CUDA_SUCCESS)
            rc = cuMemMap(out, c, 0, ids[b], 0);
        answer(rc, a, &out);
    } else if (!strcmp(verb, "unmap")) {
        printf("%d ok\n", cuMemUnmap(ids[a], b));
    } else if (!strcmp(verb, "retain")) {
        answer(cuMemRetainAllocationHandle(&out, (void *)(uintptr_t)ids[b]), a, &out);
    } else {
        printf("%d ok\n", cuMemRelease(ids[a]));
    }
}

static void do_pool(const char *verb)
{
    CUmemPoolProps props = { .allocType = 1, .location = { CU_MEM_LOCATION_TYPE_DEVICE, (int)b } };
    unsigned long long out = UNTOUCHED;
    if (!strcmp(verb, "pool"))
        answer(cuMemPoolCreate((CUmemoryPool *)&out, &props), a, &out);
    else if (!strcmp(verb, "trim"))
        printf("%d ok\n", cuMemPoolTrimTo((CUmemoryPool)(uintptr_t)ids[a], 0));
    else if (!strcmp(verb, "usepool"))
        printf("%d ok\n", cuDeviceSetMemPool(0, (CUmemoryPool)(uintptr_t)ids[a]));
    else
        printf("%d ok\n", cuMemPoolDestroy((CUmemoryPool)(uintptr_t)ids[a]));
}

static void do_graph(const char *verb)
{
    unsigned long long out = UNTOUCHED;
    CUgraph graph = NULL;
    CUresult rc;
    if (!strcmp(verb, "graph")) { /* graph ID BYTES: one memory node, instantiated */
        CUDA_MEM_ALLOC_NODE_PARAMS params = { .bytesize = b };
        CUgraphNode node;
        cuGraphCreate(&graph, 0);
        rc = cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params);
        ids[IDS / 2 + a] = params.dptr; /* to be freed by that number */
    } else { /* capture ID BYTES: the same by stream capture */
        CUdeviceptr ptr = 0;
        cuStreamBeginCapture_v2(streams[1], 0);
        rc = cuMemAllocAsync(&ptr, b, streams[1]);
        cuLaunchKernel((CUfunction)1000, 1, 1, 1, 1, 1, 1, 0, streams[1], NULL, NULL);
        cuStreamEndCapture(streams[1], &graph);
    }
    if (rc == CUDA_SUCCESS)
        rc = cuGraphInstantiateWithFlags((CUgraphExec *)&out, graph, 0);
    cuGraphDestroy(graph);
    answer(rc, a, &out);
}

static void do_free(const char *verb)
{
    CUresult rc = CUDA_ERROR_NOT_SUPPORTED;
    if (!strcmp(verb, "free"))
        rc = cuMemFree_v2(ids[a]);
    else if (!strcmp(verb, "freeasync"))
        rc = cuMemFreeAsync(ids[a], NULL);
    else if (!strcmp(verb, "freearray"))
        rc = cuArrayDestroy((CUarray)(uintptr_t)ids[a]);
    else if (!strcmp(verb, "freemip"))
        rc = cuMipmappedArrayDestroy((CUmipmappedArray)(uintptr_t)ids[a]);
    printf("%d ok\n", rc);
}

static void do_info(const char *verb)
{
    size_t free_bytes = 0, total = 0;
    if (!strcmp(verb, "info")) {
        CUresult rc = cuMemGetInfo_v2(&free_bytes, &total);
        printf("%d %zu %zu\n", rc, free_bytes, total);
    } else if (!strcmp(verb, "total")) {
        CUresult rc = cuDeviceTotalMem_v2(&total, (CUdevice)a);
        printf("%d %zu\n", rc, total);
    } else {
        unsigned narrow_free = 0, narrow_total = 0;
        CUresult rc = cuMemGetInfo(&narrow_free, &narrow_total);
        printf("%d %u %u\n", rc, narrow_free, narrow_total);
    }
}

static void do_odd(const char *verb)
{
    CUdeviceptr ptr = 0;
    size_t size = 0;
    if (!strcmp(verb, "nullalloc"))
        printf("%d\n", cuMemAlloc_v2(NULL, a));
    else if (!strcmp(verb, "nullinfo"))
        printf("%d\n", cuMemGetInfo_v2(NULL, &size));
    else if (!strcmp(verb, "foreignfree"))
        printf("%d\n", cuMemFree_v2(0x123440));
    else if (!strcmp(verb, "zero"))
        printf("%d\n", cuMemAlloc_v2(&ptr, 0));
    else if (!strcmp(verb, "failnext"))
        fake_fail_next((int)a, (int)b), printf("0\n");
    else if (!strcmp(verb, "reset"))
        printf("%d\n", cuDevicePrimaryCtxReset_v2(0));
    else
        printf("%llu\n", (unsigned long long)fake_live_bytes((int)a));
}

static const struct {
    const char *verbs;
    void (*run)(const char *verb);
} groups[] = {
    { " alloc managed pitch async async_ptsz frompool ", do_alloc },
    { " array array3d sparse mip ", do_array },
    { " create hostcreate map unmap retain release ", do_vmm },
    { " pool trim usepool destroypool ", do_pool },
    { " graph capture ", do_graph },
    { " free freeasync freearray freemip ", do_free },
    { " info total info_v1 ", do_info },
    { " nullalloc nullinfo foreignfree zero failnext reset real ", do_odd },
};

/* fork: the child carries on this conversation, the parent waits and then says how it ended. */
static void do_fork(void)
{
    fflush(stdout);
    pid_t child = fork();
    int status = 0;
    if (!child) {
        printf("child %d\n", getpid());
        return;
    }
    waitpid(child, &status, 0);
    printf("joined %d\n", status);
}

static void run(const char *verb)
{
    char spaced[72];
    snprintf(spaced, sizeof spaced, " %s ", verb);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (strstr(groups[i].verbs, spaced)) {
            groups[i].run(verb);
            return;
        }
    }
    if (!strcmp(verb, "init"))
        printf("%d\n", with_context((unsigned)a));
    else if (!strcmp(verb, "create_context"))
        printf("%d\n", own_context((unsigned)a));
    else if (!strcmp(verb, "launchgraph"))
        printf("%d ok\n", cuGraphLaunch((CUgraphExec)(uintptr_t)ids[a], NULL));
    else if (!strcmp(verb, "graphtrim"))
        printf("%d ok\n", cuDeviceGraphMemTrim((CUdevice)a));
    else if (!strcmp(verb, "stream"))
        printf("%d\n", cuStreamCreate(&streams[a], 1));
    else if (!strcmp(verb, "fork"))
        do_fork();
    else if (!strcmp(verb, "exec"))
        fflush(stdout), execlp("/proc/self/exe", "probe", (char *)NULL);
    else
        printf("unknown verb %s\n", verb);
}

int main(void)
{
    char line[256], verb[64];
    setvbuf(stdin, NULL, _IONBF, 0); /* a child or the next program goes on reading where we stopped */
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        a = b = c = d = 0;
        if (sscanf(line, "%63s %llu %llu %llu %llu", verb, &a, &b, &c, &d) < 1)
            continue;
        if (a >= IDS && strcmp(verb, "nullalloc"))
            a = 0;
        run(verb);
    }
    return 0;
}
