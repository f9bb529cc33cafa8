/* Contexts and streams coming and going: what lived in them goes with them. */
#include "cuda/cuda.h"

CUresult cuInit(unsigned int flags)
{
    kerf_open();
    return kerf_real.cuInit(flags);
}

/* A context is about to exist: have the slot, and NVML, ready by the time memory is asked for. */
CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
    (void)!kerf_go_live();
    CUresult rc = kerf_real.cuDevicePrimaryCtxRetain(out, device);
    if (rc == CUDA_SUCCESS && device >= 0 && device < KERF_DEVICES_MAX)
        __atomic_store_n(&kerf_cuda.primary[device], *out, __ATOMIC_RELEASE);
    return rc;
}

static CUcontext primary_of(CUdevice device)
{
    kerf_open();
    return device >= 0 && device < KERF_DEVICES_MAX ? __atomic_load_n(&kerf_cuda.primary[device], __ATOMIC_ACQUIRE) : NULL;
}

/* The driver destroys a primary context when its last user lets go; only then is its memory gone. */
static CUresult released(CUresult rc, CUdevice device, CUcontext ctx)
{
    unsigned int flags;
    int active = 1;
    if (rc == CUDA_SUCCESS && ctx && kerf_real.cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && !active)
        kerf_purge_context(ctx);
    return rc;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    CUcontext ctx = primary_of(device);
    kerf_gate_forget_context(ctx);
    return released(kerf_real.cuDevicePrimaryCtxRelease(device), device, ctx);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    CUcontext ctx = primary_of(device);
    kerf_gate_forget_context(ctx);
    return released(kerf_real.cuDevicePrimaryCtxRelease_v2(device), device, ctx);
}

static CUresult destroyed(CUresult rc, CUcontext ctx)
{
    if (rc == CUDA_SUCCESS)
        kerf_purge_context(ctx);
    return rc;
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
    CUcontext ctx = primary_of(device);
    kerf_gate_forget_context(ctx);
    return destroyed(kerf_real.cuDevicePrimaryCtxReset(device), ctx);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    CUcontext ctx = primary_of(device);
    kerf_gate_forget_context(ctx);
    return destroyed(kerf_real.cuDevicePrimaryCtxReset_v2(device), ctx);
}

CUresult cuCtxDestroy(CUcontext ctx)
{
    kerf_open();
    kerf_gate_forget_context(ctx);
    return destroyed(kerf_real.cuCtxDestroy(ctx), ctx);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
    kerf_open();
    kerf_gate_forget_context(ctx);
    return destroyed(kerf_real.cuCtxDestroy_v2(ctx), ctx);
}

CUresult cuStreamDestroy(CUstream stream)
{
    kerf_open();
    kerf_gate_forget_stream(stream);
    return kerf_real.cuStreamDestroy(stream);
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
    kerf_open();
    kerf_gate_forget_stream(stream);
    return kerf_real.cuStreamDestroy_v2(stream);
}

/* A launch that nobody limits needs no record of who waits for it. */
static struct kerf_gate *before_wait(void)
{
    kerf_open();
    return __atomic_load_n(&kerf.launch_free, __ATOMIC_RELAXED) ? NULL : kerf_gate_sync_begin();
}

static CUresult waited(CUresult rc, struct kerf_gate *gate)
{
    if (gate)
        kerf_gate_sync_end(gate);
    return rc;
}

CUresult cuStreamSynchronize(CUstream stream)
{
    struct kerf_gate *gate = before_wait();
    return waited(kerf_real.cuStreamSynchronize(stream), gate);
}

CUresult cuStreamSynchronize_ptsz(CUstream stream)
{
    struct kerf_gate *gate = before_wait();
    return waited(kerf_real.cuStreamSynchronize_ptsz(stream), gate);
}

CUresult cuEventSynchronize(CUevent event)
{
    struct kerf_gate *gate = before_wait();
    return waited(kerf_real.cuEventSynchronize(event), gate);
}

CUresult cuCtxSynchronize(void)
{
    struct kerf_gate *gate = before_wait();
    return waited(kerf_real.cuCtxSynchronize(), gate);
}

CUresult cuCtxSynchronize_v2(CUcontext ctx)
{
    struct kerf_gate *gate = before_wait();
    return waited(kerf_real.cuCtxSynchronize_v2(ctx), gate);
}
