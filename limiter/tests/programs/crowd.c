/* N processes at once, each asks for a little memory and stays: how many got it, how many did not. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

int main(int argc, char **argv)
{
    int processes = argc > 1 ? atoi(argv[1]) : 1, *got = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < processes; i++) {
        if (fork())
            continue;
        CUcontext ctx;
        CUdeviceptr ptr;
        cuInit(0);
        cuDevicePrimaryCtxRetain(&ctx, 0);
        cuCtxSetCurrent(ctx);
        __atomic_add_fetch(&got[cuMemAlloc_v2(&ptr, 512) != CUDA_SUCCESS], 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&got[0], __ATOMIC_SEQ_CST) + __atomic_load_n(&got[1], __ATOMIC_SEQ_CST) < processes)
            usleep(1000);
        _exit(0);
    }
    while (wait(NULL) > 0)
        ;
    printf("%d %d\n", got[0], got[1]);
    return 0;
}
