// A client of MPS: `mps_client hold SECONDS`, `fault`, `fill` or `look`. One JSON line says what it saw.
#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *PTX = ".version 7.0\n.target sm_70\n.address_size 64\n"
                         ".visible .entry poke(.param .u64 at) {\n"
                         "  .reg .b64 %rd<2>; .reg .b32 %r<2>;\n"
                         "  ld.param.u64 %rd1, [at]; mov.u32 %r1, 1; st.global.u32 [%rd1], %r1; ret;\n}\n";

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int end(const char *at, CUresult error, long steps, double began) {
    const char *name = "CUDA_SUCCESS";
    if (error != CUDA_SUCCESS && cuGetErrorName(error, &name) != CUDA_SUCCESS) name = "?";
    printf("{\"at\": \"%s\", \"error\": \"%s\", \"code\": %d, \"steps\": %ld, \"seconds\": %.2f}\n", at, name,
           (int)error, steps, now() - began);
    fflush(stdout);
    return error != CUDA_SUCCESS;
}

#define TRY(what, call)                                                                                                \
    do {                                                                                                               \
        CUresult error_ = (call);                                                                                      \
        if (error_ != CUDA_SUCCESS) return end(what, error_, steps, began);                                            \
    } while (0)

int main(int count, char **words) {
    const char *does = count > 1 ? words[1] : "look";
    double seconds = count > 2 ? atof(words[2]) : 1, began = now();
    long steps = 0;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction poke;
    CUdeviceptr block;
    TRY("init", cuInit(0));
    TRY("device", cuDeviceGet(&device, 0));
    TRY("context", cuDevicePrimaryCtxRetain(&context, device));
    TRY("current", cuCtxSetCurrent(context));
    double ready = now() - began;
    if (!strcmp(does, "look")) {
        size_t free_bytes, total;
        int processors;
        TRY("memory", cuMemGetInfo(&free_bytes, &total));
        TRY("attribute", cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device));
        printf("{\"free_mib\": %zu, \"total_mib\": %zu, \"processors\": %d, \"ready_s\": %.2f}\n", free_bytes >> 20,
               total >> 20, processors, ready);
        return 0;
    }
    if (!strcmp(does, "fill")) {
        CUresult error = CUDA_SUCCESS;
        while (steps < 4096 && (error = cuMemAlloc(&block, 64 << 20)) == CUDA_SUCCESS) steps++;
        return end("fill", error, steps, began);
    }
    TRY("block", cuMemAlloc(&block, 64 << 20));
    TRY("module", cuModuleLoadData(&module, PTX));
    TRY("function", cuModuleGetFunction(&poke, module, "poke"));
    CUdeviceptr at = strcmp(does, "fault") ? block : 0x10;
    void *arguments[] = {&at};
    printf("{\"ready_s\": %.2f}\n", ready);
    fflush(stdout);
    began = now();
    do {
        TRY("launch", cuLaunchKernel(poke, 1, 1, 1, 1, 1, 1, 0, NULL, arguments, NULL));
        TRY("wait", cuCtxSynchronize());
        steps++;
        struct timespec pause = {0, 1000000};
        nanosleep(&pause, NULL);
    } while (now() - began < seconds);
    return end("end", CUDA_SUCCESS, steps, began);
}
