/* The fake driver's devices, contexts, streams, events and launches. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"
#include "driver.h"

struct CUctx_st {
    int device, card;
    bool primary, active;
};

struct CUevent_st {
    int card;
    bool recorded, known;
    uint64_t number, done_at;
};

static struct CUctx_st primaries[FAKE_CARDS];
static __thread struct CUctx_st *current;
static __thread struct CUctx_st *pushed[16];
static __thread int depth;
static __thread int capture_mode;
static uint64_t launches, fast_clock;
static int initialised;

uint64_t fake_launches(void)
{
    return __atomic_load_n(&launches, __ATOMIC_RELAXED);
}

int fake_current_card(void)
{
    return current ? current->card : -1;
}

int fake_current_device(void)
{
    return current ? current->device : -1;
}

CUresult cuInit(unsigned int flags)
{
    fake_open();
    if (!__atomic_exchange_n(&initialised, 1, __ATOMIC_ACQ_REL))
        fake_begin_anew();
    return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count)
{
    if (!initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    *count = fake_visible();
    return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *out, int ordinal)
{
    if (!initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (fake_physical(ordinal) < 0)
        return 101;
    *out = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    if (fake_physical(device) < 0)
        return 101;
    *uuid = fake_uuid(fake_physical(device));
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    return cuDeviceGetUuid_v2(uuid, device);
}

static CUresult activate(struct CUctx_st *ctx)
{
    if (ctx->active)
        return CUDA_SUCCESS;
    if (!fake_take_memory(ctx->card, fake_setting("FAKE_CONTEXT_MIB", 0) << 20))
        return CUDA_ERROR_OUT_OF_MEMORY;
    ctx->active = true;
    return CUDA_SUCCESS;
}

static void deactivate(struct CUctx_st *ctx)
{
    if (ctx->active)
        fake_give_memory(ctx->card, fake_setting("FAKE_CONTEXT_MIB", 0) << 20);
    ctx->active = false;
    fake_drop_context(ctx->card);
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
    if (!initialised || fake_physical(device) < 0)
        return initialised ? 101 : CUDA_ERROR_NOT_INITIALIZED;
    primaries[device].device = device;
    primaries[device].card = fake_physical(device);
    primaries[device].primary = true;
    *out = &primaries[device];
    return activate(*out);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    deactivate(&primaries[device]);
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    return cuDevicePrimaryCtxRelease(device);
}

CUresult cuDevicePrimaryCtxReset(CUdevice device)
{
    return cuDevicePrimaryCtxRelease(device);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    return cuDevicePrimaryCtxRelease(device);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
    *flags = 0;
    *active = primaries[device].active;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext *out, unsigned int flags, CUdevice device)
{
    (void)flags;
    if (!initialised || fake_physical(device) < 0)
        return initialised ? 101 : CUDA_ERROR_NOT_INITIALIZED;
    CUcontext ctx = calloc(1, sizeof *ctx);
    ctx->device = device;
    ctx->card = fake_physical(device);
    *out = current = ctx;
    return activate(ctx);
}

CUresult cuCtxDestroy_v2(CUcontext ctx)
{
    deactivate(ctx);
    if (current == ctx)
        current = NULL;
    free(ctx);
    return CUDA_SUCCESS;
}

CUresult cuCtxDestroy(CUcontext ctx)
{
    return cuCtxDestroy_v2(ctx);
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
    current = ctx;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *ctx)
{
    *ctx = current;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext ctx)
{
    pushed[depth++ % 16] = current;
    current = ctx;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext *ctx)
{
    *ctx = current;
    current = pushed[--depth % 16];
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device)
{
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = current->device;
    return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize(void)
{
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    fake_wait_all(current->card);
    return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream *out, unsigned int flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    (*out)->card = current ? current->card : 0;
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream stream)
{
    memset(stream, 0xdd, sizeof *stream); /* a later use must fail loudly */
    free(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream)
{
    return cuStreamDestroy_v2(stream);
}

CUresult cuStreamSynchronize(CUstream stream)
{
    (void)stream;
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    fake_wait_all(current->card);
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize_ptsz(CUstream stream)
{
    return cuStreamSynchronize(stream);
}

CUresult cuCtxSynchronize_v2(CUcontext ctx)
{
    fake_wait_all(ctx ? ctx->card : current->card);
    return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode)
{
    int before = capture_mode;
    capture_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

CUresult fake_run(uint64_t duration_ns, CUstream stream)
{
    if (fake_fast()) {
        fast_clock += duration_ns; /* as if the card were never late */
        return CUDA_SUCCESS;
    }
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (fake_is_stream(stream) && stream->capture) {
        stream->capture->duration_ns += duration_ns;
        return CUDA_SUCCESS;
    }
    __atomic_add_fetch(&launches, 1, __ATOMIC_RELAXED);
    fake_call(FAKE_LAUNCH);
    fake_submit(current->card, duration_ns);
    return CUDA_SUCCESS;
}

#define LAUNCH_ARGS unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared
#define IGNORE_ARGS (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz; (void)shared
#define RUN(f) fake_run((uint64_t)(uintptr_t)(f), stream)

CUresult cuLaunchKernel(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params, void **extra) { IGNORE_ARGS; (void)params; (void)extra; return RUN(f); }
CUresult cuLaunchKernel_ptsz(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params, void **extra) { IGNORE_ARGS; (void)params; (void)extra; return RUN(f); }
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **params, void **extra) { (void)params; (void)extra; return fake_run((uint64_t)(uintptr_t)f, config->hStream); }
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f, void **params, void **extra) { return cuLaunchKernelEx(config, f, params, extra); }
CUresult cuLaunchCooperativeKernel(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params) { IGNORE_ARGS; (void)params; return RUN(f); }
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params) { IGNORE_ARGS; (void)params; return RUN(f); }
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *list, unsigned int count, unsigned int flags) { (void)count; (void)flags; return fake_run((uint64_t)(uintptr_t)list->function, list->hStream); }
CUresult cuLaunch(CUfunction f) { return fake_run((uint64_t)(uintptr_t)f, NULL); }
CUresult cuLaunchGrid(CUfunction f, int width, int height) { (void)width; (void)height; return cuLaunch(f); }
CUresult cuLaunchGridAsync(CUfunction f, int width, int height, CUstream stream) { (void)width; (void)height; return RUN(f); }

CUresult cuEventCreate(CUevent *out, unsigned int flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    (*out)->card = current ? current->card : 0;
    return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent event)
{
    memset(event, 0xdd, sizeof *event);
    free(event);
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    if (fake_is_stream(stream) && stream->capture)
        return CUDA_SUCCESS; /* becomes part of the capture; the event is not usable then */
    fake_call(FAKE_RECORD);
    event->recorded = true;
    event->known = fake_fast();
    event->done_at = fast_clock;
    if (!event->known)
        event->number = fake_submit(event->card, 0);
    return CUDA_SUCCESS;
}

static CUresult is_over(CUevent event)
{
    if (!event->recorded || event->known)
        return CUDA_SUCCESS;
    event->known = fake_over(event->card, event->number, &event->done_at);
    return event->known ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventQuery(CUevent event)
{
    if (!current || current->card != event->card)
        return CUDA_ERROR_INVALID_CONTEXT; /* stricter than the real one */
    fake_call(FAKE_QUERY);
    return is_over(event);
}

CUresult cuEventSynchronize(CUevent event)
{
    while (is_over(event) == CUDA_ERROR_NOT_READY)
        fake_pause();
    return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
    fake_call(FAKE_ELAPSED);
    if (is_over(start) || is_over(end))
        return CUDA_ERROR_NOT_READY;
    *ms = (float)((double)(int64_t)(end->done_at - start->done_at) / 1e6);
    return CUDA_SUCCESS;
}
