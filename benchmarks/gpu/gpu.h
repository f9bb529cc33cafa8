/* Shared by the benchmark programs: a context, a kernel of a given length, a clock. Driver API only. */
#ifndef KERF_BENCH_GPU_H
#define KERF_BENCH_GPU_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kerf/cuda_abi.h"

#define CUDA_HOOK(symbol, base, version, stream, params) extern CUresult symbol params;
#define CUDA_NEED(symbol, params) extern CUresult symbol params;
#define NVML_HOOK(symbol, params)
#define NVML_NEED(symbol, params)
#include "driver/hooks.def"
#undef CUDA_HOOK
#undef CUDA_NEED
#undef NVML_HOOK
#undef NVML_NEED
extern CUresult cuCtxSetCurrent(CUcontext ctx);
extern CUresult cuCtxSynchronize(void);
extern CUresult cuStreamCreate(CUstream *out, unsigned int flags);
extern CUresult cuGraphCreate(CUgraph *out, unsigned int flags);
extern CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr address, unsigned long long flags);

/* A loop of dependent multiply-adds: real work, so that time spent switched out does not count. */
static const char *const PTX =
    ".version 7.0\n.target sm_70\n.address_size 64\n"
    ".visible .entry work(.param .u64 n, .param .u64 out)\n{\n"
    ".reg .pred %p<3>;\n.reg .f32 %f<4>;\n.reg .b64 %rd<5>;\n"
    "ld.param.u64 %rd1,[n];\nld.param.u64 %rd2,[out];\n"
    "mov.f32 %f1,0f3F800000;\nmov.u64 %rd3,0;\n"
    "LOOP:\nsetp.ge.u64 %p1,%rd3,%rd1;\n@%p1 bra DONE;\n"
    "fma.rn.f32 %f1,%f1,0f3F7FFFFF,0f33800000;\nadd.u64 %rd3,%rd3,1;\nbra LOOP;\n"
    "DONE:\nsetp.eq.u64 %p2,%rd2,0;\n@%p2 bra END;\nst.global.f32 [%rd2],%f1;\nEND:\nret;\n}\n";

struct work {
    CUfunction function;
    unsigned long long iterations, nothing;
    unsigned blocks;
};

static inline void must(CUresult rc, const char *what)
{
    if (rc == CUDA_SUCCESS)
        return;
    fprintf(stderr, "%s: CUDA error %d\n", what, rc);
    exit(3);
}

static inline double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline CUcontext open_card(void)
{
    CUcontext ctx;
    must(cuInit(0), "cuInit");
    must(cuDevicePrimaryCtxRetain(&ctx, 0), "cuDevicePrimaryCtxRetain");
    must(cuCtxSetCurrent(ctx), "cuCtxSetCurrent");
    return ctx;
}

static inline CUresult launch_work(struct work *work, CUstream stream)
{
    void *params[] = { &work->iterations, &work->nothing };
    return cuLaunchKernel(work->function, work->blocks, 1, 1, 256, 1, 1, 0, stream, params, NULL);
}

/* GPU time of one launch, by events around ten of them. */
static inline double measure(struct work *work)
{
    CUevent from, to;
    float ms = 0;
    must(cuEventCreate(&from, 0), "cuEventCreate");
    must(cuEventCreate(&to, 0), "cuEventCreate");
    must(launch_work(work, NULL), "launch");
    must(cuEventRecord(from, NULL), "record");
    for (int i = 0; i < 10; i++)
        must(launch_work(work, NULL), "launch");
    must(cuEventRecord(to, NULL), "record");
    must(cuCtxSynchronize(), "synchronize");
    must(cuEventElapsedTime(&ms, from, to), "elapsed");
    return (double)ms * 1e5; /* ns each */
}

/* A kernel of `ns` nanoseconds. On the fake driver, which loads no modules, its address is its length. */
static inline struct work make_work(double ns, unsigned long long iterations)
{
    CUresult (*load)(void **, const void *) = (CUresult(*)(void **, const void *))dlsym(RTLD_DEFAULT, "cuModuleLoadData");
    CUresult (*find)(CUfunction *, void *, const char *) = (CUresult(*)(CUfunction *, void *, const char *))dlsym(RTLD_DEFAULT, "cuModuleGetFunction");
    struct work work = { .iterations = iterations, .blocks = 264 };
    void *module;
    if (!load || !find) {
        work.function = (CUfunction)(uintptr_t)(ns < 1 ? 1 : (unsigned long long)ns);
        return work;
    }
    must(load(&module, PTX), "cuModuleLoadData");
    must(find(&work.function, module, "work"), "cuModuleGetFunction");
    if (iterations)
        return work;
    work.iterations = 20000;
    for (int round = 0; round < 3 && ns > 0; round++) {
        double each = measure(&work);
        double next = (double)work.iterations * ns / (each > 1 ? each : 1);
        work.iterations = next < 1 ? 1 : (unsigned long long)next;
    }
    if (ns <= 0)
        work.iterations = 0;
    return work;
}

#endif
