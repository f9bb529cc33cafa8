/*
 * What a container sees of its card: the reported size, how much it gets before the first refusal, the refusal's
 * code, and one byte more. Prints KEY=VALUE lines, then `ready`, then holds its memory until SIGTERM.
 */
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

typedef int CUresult, CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
CUresult cuInit(unsigned flags);
CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice device);
CUresult cuCtxSetCurrent(CUcontext ctx);
CUresult cuMemGetInfo_v2(size_t *free, size_t *total);
CUresult cuMemAlloc_v2(CUdeviceptr *ptr, size_t bytes);

static void leave(int signal)
{
    (void)signal;
    _exit(0);
}

int main(void)
{
    CUcontext ctx;
    CUdeviceptr ptr, untouched = 0x5a5a;
    size_t free = 0, total = 0, granted = 0;
    signal(SIGTERM, leave);
    printf("start=%d\n", cuInit(0) || cuDevicePrimaryCtxRetain(&ctx, 0) || cuCtxSetCurrent(ctx));
    printf("info=%d\n", cuMemGetInfo_v2(&free, &total));
    for (size_t block = (size_t)64 << 20; block >= (size_t)2 << 20; block /= 2)
        while (cuMemAlloc_v2(&ptr, block) == 0)
            granted += block;
    printf("total=%zu\nfree=%zu\ngranted=%zu\n", total, free, granted);
    printf("refusal=%d\n", cuMemAlloc_v2(&untouched, free - granted + 1));
    printf("untouched=%d\nready\n", untouched == 0x5a5a);
    fflush(stdout);
    for (;;)
        pause();
}
