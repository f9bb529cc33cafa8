/*
 * The whole library under a sanitizer: threads that allocate every way, launch, capture, replay and
 * destroy streams, while the pacer paces them. Ends with nothing charged.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cuda/cuda.h"

#define THREADS 4
#define ROUNDS 60

#define ASK(symbol, type) ((type)dlsym_in_cuda(symbol))
extern void *dlopen(const char *, int);
extern void *dlsym(void *, const char *);

static void *cuda;
static CUcontext ctx;

static void *dlsym_in_cuda(const char *symbol)
{
    void *found = dlsym(cuda, symbol);
    if (!found)
        abort();
    return found;
}

static void must(CUresult rc)
{
    if (rc != CUDA_SUCCESS && rc != CUDA_ERROR_OUT_OF_MEMORY)
        abort();
}

static void allocate(unsigned *seed)
{
    CUdeviceptr plain, async;
    CUarray array;
    CUDA_ARRAY_DESCRIPTOR desc = { 1024, 64, 0x20, 1 };
    size_t bytes = ((size_t)rand_r(seed) % 64 + 1) << 16;
    CUresult a = cuMemAlloc_v2(&plain, bytes), b = cuMemAllocAsync(&async, bytes, NULL), c = cuArrayCreate_v2(&array, &desc);
    must(a), must(b), must(c);
    if (!a)
        must(cuMemFree_v2(plain));
    if (!b)
        must(cuMemFreeAsync(async, NULL));
    if (!c)
        must(cuArrayDestroy(array));
}

static void launch(CUstream stream, uintptr_t ns)
{
    must(cuLaunchKernel((CUfunction)ns, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL));
}

static void capture_and_replay(CUstream stream)
{
    CUgraph graph;
    CUgraphExec exec;
    must(cuStreamBeginCapture_v2(stream, 0));
    for (int i = 0; i < 5; i++)
        launch(stream, 20000);
    must(cuStreamEndCapture(stream, &graph));
    must(cuGraphInstantiateWithFlags(&exec, graph, 0));
    must(cuGraphLaunch(exec, stream));
    must(cuGraphDestroy(graph));
    must(cuGraphExecDestroy(exec));
}

static void *worker(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    ASK("cuCtxSetCurrent", CUresult(*)(CUcontext))(ctx);
    for (int round = 0; round < ROUNDS; round++) {
        CUstream stream;
        must(ASK("cuStreamCreate", CUresult(*)(CUstream *, unsigned))(&stream, 1));
        for (int i = 0; i < 20; i++)
            launch(stream, 1000u << rand_r(&seed) % 8);
        allocate(&seed);
        capture_and_replay(stream);
        must(kerf_real.cuStreamSynchronize(stream));
        must(cuStreamDestroy_v2(stream));
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    size_t free_bytes, total;
    cuda = dlopen("libcuda.so.1", 2);
    must(cuInit(0));
    must(cuDevicePrimaryCtxRetain(&ctx, 0));
    ASK("cuCtxSetCurrent", CUresult(*)(CUcontext))(ctx);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, worker, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    kerf_pools_refresh(true);
    must(cuMemGetInfo_v2(&free_bytes, &total));
    printf("charged %llu, launches seen %llu\n", (unsigned long long)kerf_charged(kerf.ledger, 0), (unsigned long long)kerf.ledger->cards[0].launches);
    return kerf_charged(kerf.ledger, 0) != 0;
}
