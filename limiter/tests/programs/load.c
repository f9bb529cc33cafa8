/*
 * load KERNEL_NS SECONDS [stream|sync|graph|two|late|burst|captured]: keeps the fake GPU busy and says what it got:
 *   {"launches": N, "busy_ns": B, "seconds": S}
 * stream: as fast as launches are taken; sync: waits after each; graph: graphs of 20 such kernels;
 * two: two streams; late: the same after a rest in which a cap saves up all it may; burst: five kernels, then 5 ms of nothing; captured: captures a graph now and then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define GRAPH_KERNELS 20

static CUfunction kernel;
static CUstream streams[2];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void launch(CUstream stream)
{
    if (cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL) != CUDA_SUCCESS)
        abort();
}

static CUgraphExec capture(void)
{
    CUgraph graph;
    CUgraphExec exec;
    if (cuStreamBeginCapture_v2(streams[1], 0))
        abort();
    for (int i = 0; i < GRAPH_KERNELS; i++)
        launch(streams[1]);
    if (cuStreamEndCapture(streams[1], &graph) || cuGraphInstantiateWithFlags(&exec, graph, 0))
        abort();
    cuGraphDestroy(graph);
    return exec;
}

static void step(const char *mode, CUgraphExec exec, long i)
{
    if (!strcmp(mode, "graph")) {
        cuGraphLaunch(exec, streams[0]);
        return;
    }
    launch(!strcmp(mode, "two") || !strcmp(mode, "late") ? streams[i % 2] : streams[0]);
    if (!strcmp(mode, "sync"))
        cuStreamSynchronize(streams[0]);
    if (!strcmp(mode, "burst") && i % 5 == 4)
        cuStreamSynchronize(streams[0]), usleep(5000);
    if (!strcmp(mode, "captured") && i % 50 == 49)
        cuGraphExecDestroy(capture());
}

int main(int argc, char **argv)
{
    CUcontext ctx;
    long count = 0;
    const char *mode = argc > 3 ? argv[3] : "stream";
    kernel = (CUfunction)(uintptr_t)strtoull(argv[1], NULL, 10);
    double seconds = atof(argv[2]);
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&ctx, 0) || cuCtxSetCurrent(ctx) || cuStreamCreate(&streams[0], 1) || cuStreamCreate(&streams[1], 1))
        return 1;
    CUgraphExec exec = capture();
    if (!strcmp(mode, "late")) {
        step(mode, exec, 0);
        usleep(1200000);
    }
    double from = now(), to;
    uint64_t busy = fake_busy_ns(0);
    while ((to = now()) < from + seconds)
        step(mode, exec, count++);
    printf("{\"launches\": %ld, \"busy_ns\": %llu, \"seconds\": %.6f}\n", count, (unsigned long long)(fake_busy_ns(0) - busy), to - from);
    return 0;
}
