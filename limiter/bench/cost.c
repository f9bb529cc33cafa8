/*
 * cost LIBCUDA MODE: what a call costs over the bare fake driver, in nanoseconds; one JSON line.
 * The same program runs bare and under the limiter; run.sh subtracts. The fake does nothing (FAKE_FAST).
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "driver.h"

#define ROUNDS 15

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static CUstream stream;

/* A kernel of one nanosecond: under any cap, so that nothing is ever held back. */
static void launch(void)
{
    cuLaunchKernel((CUfunction)1, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
}

static void pair(void)
{
    CUdeviceptr ptr;
    if (cuMemAlloc_v2(&ptr, 4096) != CUDA_SUCCESS)
        abort();
    cuMemFree_v2(ptr);
}

/* The quickest of several rounds: what the code costs, not what the machine was doing meanwhile. */
static double cost(void (*call)(void), int count)
{
    double best = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        double from = now_ns();
        for (int i = 0; i < count; i++)
            call();
        double each = (now_ns() - from) / count;
        best = each < best ? each : best;
    }
    return best;
}

static void fill(int count)
{
    CUdeviceptr ptr;
    for (int i = 0; i < count; i++)
        if (cuMemAlloc_v2(&ptr, 512) != CUDA_SUCCESS)
            abort();
}

int main(void)
{
    CUcontext ctx;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&ctx, 0) || cuCtxSetCurrent(ctx) || cuStreamCreate(&stream, 1))
        return 1;
    for (int i = 0; i < 1000; i++)
        launch();
    printf("{\"launch\": %.2f, ", cost(launch, 200000));
    fill(10);
    printf("\"pair_10\": %.1f, ", cost(pair, 20000));
    fill(9990);
    printf("\"pair_10000\": %.1f, ", cost(pair, 20000));
    fill(990000);
    printf("\"pair_1000000\": %.1f}\n", cost(pair, 20000));
    return 0;
}
