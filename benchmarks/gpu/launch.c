/*
 * launch COUNT: nanoseconds per call as one JSON object: empty kernels by each way to launch, a graph of
 * one kernel, allocate and free with few and many blocks live.
 */
#include "gpu.h"

static struct work empty;
static CUstream stream;
static CUgraphExec exec;

static void by_kernel(void)
{
    must(launch_work(&empty, stream), "cuLaunchKernel");
}

static void by_kernel_ex(void)
{
    void *params[] = { &empty.iterations, &empty.nothing };
    CUlaunchConfig config = { .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 32, .blockDimY = 1, .blockDimZ = 1, .hStream = stream };
    must(cuLaunchKernelEx(&config, empty.function, params, NULL), "cuLaunchKernelEx");
}

static void by_cooperative(void)
{
    void *params[] = { &empty.iterations, &empty.nothing };
    must(cuLaunchCooperativeKernel(empty.function, 1, 1, 1, 32, 1, 1, 0, stream, params), "cuLaunchCooperativeKernel");
}

static void by_graph(void)
{
    must(cuGraphLaunch(exec, stream), "cuGraphLaunch");
}

static void by_alloc(void)
{
    CUdeviceptr ptr;
    must(cuMemAlloc_v2(&ptr, 4096), "cuMemAlloc");
    must(cuMemFree_v2(ptr), "cuMemFree");
}

static void by_async(void)
{
    CUdeviceptr ptr;
    must(cuMemAllocAsync(&ptr, 4096, stream), "cuMemAllocAsync");
    must(cuMemFreeAsync(ptr, stream), "cuMemFreeAsync");
}

/* Batches are small enough not to fill the driver's queue. The result is the median batch. */
static double time_calls(void (*call)(void), long count)
{
    double batches[64];
    long each = count / 64 > 500 ? 500 : count / 64 + 1, rounds = count / 64 / each + 1;
    for (int b = 0; b < 64; b++) {
        double spent = 0;
        for (long r = 0; r < rounds; r++) {
            must(cuCtxSynchronize(), "synchronize");
            double from = now_s();
            for (long i = 0; i < each; i++)
                call();
            spent += now_s() - from;
        }
        batches[b] = spent / (double)(rounds * each);
    }
    for (int i = 0; i < 64; i++)
        for (int j = i + 1; j < 64; j++)
            if (batches[j] < batches[i]) {
                double swap = batches[i];
                batches[i] = batches[j];
                batches[j] = swap;
            }
    return batches[32] * 1e9;
}

static void make_graph(void)
{
    CUgraph graph;
    must(cuStreamBeginCapture_v2(stream, 0), "cuStreamBeginCapture");
    by_kernel();
    must(cuStreamEndCapture(stream, &graph), "cuStreamEndCapture");
    must(cuGraphInstantiateWithFlags(&exec, graph, 0), "cuGraphInstantiate");
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 200000;
    CUdeviceptr ptr;
    open_card();
    must(cuStreamCreate(&stream, 1), "cuStreamCreate");
    empty = make_work(0, 0);
    empty.blocks = 1;
    make_graph();
    for (int i = 0; i < 2000; i++)
        by_kernel(), by_graph();
    must(cuCtxSynchronize(), "synchronize");
    printf("{\"cuLaunchKernel\": %.1f, ", time_calls(by_kernel, count));
    printf("\"cuLaunchKernelEx\": %.1f, ", time_calls(by_kernel_ex, count));
    printf("\"cuLaunchCooperativeKernel\": %.1f, ", time_calls(by_cooperative, count));
    printf("\"cuGraphLaunch\": %.1f, ", time_calls(by_graph, count));
    printf("\"cuMemAlloc+Free\": %.1f, ", time_calls(by_alloc, count / 20));
    printf("\"cuMemAllocAsync+Free\": %.1f, ", time_calls(by_async, count / 4));
    for (int i = 0; i < 20000; i++)
        must(cuMemAlloc_v2(&ptr, 512), "cuMemAlloc");
    printf("\"cuMemAlloc+Free, 20k live\": %.1f}\n", time_calls(by_alloc, count / 20));
    return 0;
}
