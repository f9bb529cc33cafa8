/*
 * ranks DEVICE GROUP SECONDS: one rank of a tensor-parallel pair. Each step is a kernel of 50 us and a collective of
 * 30 us that waits for the other rank; at most eight steps are ahead. Says
 *   {"steps": N, "worst_ms": W, "seconds": S}
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define AHEAD 8

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void launch(uint64_t kernel)
{
    if (cuLaunchKernel((CUfunction)(uintptr_t)kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) != CUDA_SUCCESS)
        abort();
}

int main(int argc, char **argv)
{
    CUcontext ctx;
    CUevent events[AHEAD];
    if (argc < 4 || cuInit(0) || cuDevicePrimaryCtxRetain(&ctx, atoi(argv[1])) || cuCtxSetCurrent(ctx))
        return 1;
    for (int i = 0; i < AHEAD; i++)
        cuEventCreate(&events[i], 0);
    double from = now(), last = from, worst = 0, seconds = atof(argv[3]);
    long steps = 0;
    for (; now() < from + seconds; steps++) {
        if (steps >= AHEAD) {
            while (cuEventQuery(events[steps % AHEAD]) == CUDA_ERROR_NOT_READY && now() < from + seconds)
                usleep(20); /* not for ever: the other rank may be gone */
            double at = now();
            worst = at - last > worst ? at - last : worst;
            last = at;
        }
        launch(50000);
        launch(FAKE_PEERS(atoi(argv[2]), 30000));
        cuEventRecord(events[steps % AHEAD], NULL);
    }
    printf("{\"steps\": %ld, \"worst_ms\": %.1f, \"seconds\": %.3f}\n", steps, worst * 1e3, now() - from);
    fflush(stdout);
    _Exit(0);
}
