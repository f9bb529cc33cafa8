/*
 * steps KERNELS KERNEL_NS HOST_NS SECONDS: a program that waits for each of its steps, as a model that writes token after
 * token does. A step is KERNELS kernels of twelve kinds, before each of which the host works for HOST_NS. Says
 * {"warm": 1} after its first moments, and at its end what came after them:
 *   {"steps": N, "seconds": S, "cpu": C, "busy_ns": B, "records": R, "queries": Q, "waits": W, "waited_ns": T}
 * cpu: seconds of all its threads; records to waited_ns: calls of the driver's, and waits for its lock (FAKE_CALLS), by
 * the program and the limiter in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "driver.h"

#define KINDS 12

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void work(double seconds)
{
    for (double end = seconds_of(CLOCK_MONOTONIC) + seconds; seconds_of(CLOCK_MONOTONIC) < end;)
        ;
}

static void step(int kernels, CUfunction kernel, double host, CUstream stream)
{
    for (int i = 0; i < kernels; i++) {
        work(host);
        if (cuLaunchKernel(kernel, 1 + (unsigned)(i % KINDS), 1, 1, 1, 1, 1, 0, stream, NULL, NULL) != CUDA_SUCCESS)
            abort();
    }
    cuStreamSynchronize(stream);
}

int main(int argc, char **argv)
{
    CUcontext ctx;
    CUstream stream;
    if (argc < 5 || cuInit(0) || cuDevicePrimaryCtxRetain(&ctx, 0) || cuCtxSetCurrent(ctx) || cuStreamCreate(&stream, 1))
        return 1;
    int kernels = atoi(argv[1]);
    CUfunction kernel = (CUfunction)(uintptr_t)strtoull(argv[2], NULL, 10);
    double host = atof(argv[3]) / 1e9, seconds = atof(argv[4]);
    long steps = 0;
    for (double warm = seconds_of(CLOCK_MONOTONIC) + 0.3; seconds_of(CLOCK_MONOTONIC) < warm;)
        step(kernels, kernel, host, stream);
    printf("{\"warm\": 1}\n");
    fflush(stdout);
    struct fake_calls before = fake_calls_made();
    uint64_t busy = fake_busy_ns(0);
    double from = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (; seconds_of(CLOCK_MONOTONIC) < from + seconds; steps++)
        step(kernels, kernel, host, stream);
    struct fake_calls after = fake_calls_made();
    double took = seconds_of(CLOCK_MONOTONIC) - from;
    printf("{\"steps\": %ld, \"seconds\": %.6f, \"cpu\": %.6f, \"busy_ns\": %llu, ", steps, took,
           seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu, (unsigned long long)(fake_busy_ns(0) - busy));
    printf("\"records\": %llu, \"queries\": %llu, \"waits\": %llu, \"waited_ns\": %llu}\n",
           (unsigned long long)(after.count[FAKE_RECORD] - before.count[FAKE_RECORD]),
           (unsigned long long)(after.count[FAKE_QUERY] - before.count[FAKE_QUERY]),
           (unsigned long long)(after.waits - before.waits), (unsigned long long)(after.waited_ns - before.waited_ns));
    return 0;
}
