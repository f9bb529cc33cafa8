/*
 * N times: a process that does nothing but take and give back memory is killed at a random instant.
 * Beside it a survivor does the same all along and must never wait. Exit 0: nothing leaked.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define STEP (2u << 20)
#define SLICE_STEPS 32
#define VICTIMS 2
#define PATIENCE_NS 2000000000ull /* longer than this for one call is a hang */

static uint64_t *slowest;

static void open_context(void)
{
    CUcontext ctx;
    cuInit(0);
    cuDevicePrimaryCtxRetain(&ctx, 0);
    cuCtxSetCurrent(ctx);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void churn(unsigned seed, bool timed)
{
    open_context();
    for (;;) {
        CUdeviceptr held[4];
        int count = 0;
        uint64_t from = timed ? now_ns() : 0;
        for (int i = rand_r(&seed) % 4; i >= 0; i--)
            if (cuMemAlloc_v2(&held[count], STEP) == CUDA_SUCCESS)
                count++;
        while (count)
            cuMemFree_v2(held[--count]);
        if (timed && now_ns() - from > *slowest)
            *slowest = now_ns() - from;
    }
}

static pid_t start(unsigned seed, bool timed)
{
    pid_t pid = fork();
    if (!pid)
        churn(seed, timed);
    return pid;
}

static int whole_slice(void)
{
    CUdeviceptr ptr;
    int count = 0;
    open_context();
    while (cuMemAlloc_v2(&ptr, STEP) == CUDA_SUCCESS)
        count++;
    printf("had %d of %d steps, slowest round %.1f ms\n", count, SLICE_STEPS, (double)*slowest / 1e6);
    return count == SLICE_STEPS && *slowest < PATIENCE_NS ? 0 : 1;
}

int main(int argc, char **argv)
{
    int kills = argc > 1 ? atoi(argv[1]) : 1000;
    unsigned seed = 12345;
    pid_t victims[VICTIMS];
    slowest = mmap(NULL, sizeof *slowest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t survivor = start(1, true);
    for (int i = 0; i < VICTIMS; i++)
        victims[i] = start((unsigned)i + 2, false);
    for (int i = 0; i < kills; i++) {
        usleep((useconds_t)(5000 + rand_r(&seed) % 15000));
        kill(victims[i % VICTIMS], SIGKILL);
        waitpid(victims[i % VICTIMS], NULL, 0);
        victims[i % VICTIMS] = start((unsigned)i + 10, false);
    }
    for (int i = 0; i < VICTIMS; i++)
        kill(victims[i], SIGKILL);
    kill(survivor, SIGKILL);
    while (wait(NULL) > 0)
        ;
    return whole_slice();
}
