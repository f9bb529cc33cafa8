/* N processes of two threads each take and give back memory at the limit, all at once: never above it, never stuck below. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

#define STEP (2u << 20)
#define ROUNDS 400
#define LIMIT_STEPS 32 /* a slice of 64 MiB */

struct shared {
    int ready, over;
    long held; /* steps held by all, counted only while certainly held */
};

static struct shared *shared;

static void one_round(unsigned *seed)
{
    CUdeviceptr held[8];
    int count = 0;
    for (int i = rand_r(seed) % 8; i >= 0; i--) {
        if (cuMemAlloc_v2(&held[count], STEP) != CUDA_SUCCESS)
            break;
        count++;
        if (__atomic_add_fetch(&shared->held, 1, __ATOMIC_SEQ_CST) > LIMIT_STEPS)
            __atomic_store_n(&shared->over, 1, __ATOMIC_SEQ_CST);
    }
    while (count) {
        __atomic_sub_fetch(&shared->held, 1, __ATOMIC_SEQ_CST);
        cuMemFree_v2(held[--count]);
    }
}

static void *worker(void *ctx)
{
    unsigned seed = (unsigned)(uintptr_t)&seed;
    cuCtxSetCurrent(ctx);
    for (int i = 0; i < ROUNDS; i++)
        one_round(&seed);
    return NULL;
}

static int child(int processes)
{
    CUcontext ctx;
    pthread_t other;
    cuInit(0);
    cuDevicePrimaryCtxRetain(&ctx, 0);
    cuCtxSetCurrent(ctx);
    __atomic_add_fetch(&shared->ready, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&shared->ready, __ATOMIC_SEQ_CST) < processes)
        usleep(100);
    pthread_create(&other, NULL, worker, ctx);
    worker(ctx);
    pthread_join(other, NULL);
    return 0;
}

/* Afterwards the whole slice must be there to be had, and no more. */
static int all_there(void)
{
    CUcontext ctx;
    CUdeviceptr ptr;
    int count = 0;
    cuInit(0);
    cuDevicePrimaryCtxRetain(&ctx, 0);
    cuCtxSetCurrent(ctx);
    while (cuMemAlloc_v2(&ptr, STEP) == CUDA_SUCCESS)
        count++;
    printf("over %d, had %d of %d steps\n", shared->over, count, LIMIT_STEPS);
    return !shared->over && count == LIMIT_STEPS ? 0 : 1;
}

int main(int argc, char **argv)
{
    int processes = argc > 1 ? atoi(argv[1]) : 64;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < processes; i++)
        if (fork() == 0)
            _exit(child(processes));
    while (wait(NULL) > 0)
        ;
    return all_there();
}
