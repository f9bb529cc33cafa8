/* Everything that puts work on the GPU: straight through where nothing is limited, else past the gate. */
#include "cuda/cuda.h"

static inline bool is_free(void)
{
    return likely(__atomic_load_n(&kerf.launch_free, __ATOMIC_RELAXED));
}

static uint64_t blocks(unsigned x, unsigned y, unsigned z)
{
    return (uint64_t)x * y * z;
}

static CUstream own_stream(CUstream stream)
{
    return stream ? stream : CU_STREAM_PER_THREAD;
}

CUresult cuLaunchKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **params, void **extra)
{
    if (is_free())
        return kerf_real.cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
    struct kerf_launch launch = { f, blocks(gx, gy, gz), stream };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchKernel(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunchKernel_ptsz(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **params, void **extra)
{
    if (is_free())
        return kerf_real.cuLaunchKernel_ptsz(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
    struct kerf_launch launch = { f, blocks(gx, gy, gz), own_stream(stream) };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchKernel_ptsz(f, gx, gy, gz, bx, by, bz, shared, stream, params, extra);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **params, void **extra)
{
    if (is_free())
        return kerf_real.cuLaunchKernelEx(config, f, params, extra);
    kerf_open();
    if (!config)
        return kerf_real.cuLaunchKernelEx(config, f, params, extra);
    struct kerf_launch launch = { f, blocks(config->gridDimX, config->gridDimY, config->gridDimZ), config->hStream };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchKernelEx(config, f, params, extra);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f, void **params, void **extra)
{
    if (is_free())
        return kerf_real.cuLaunchKernelEx_ptsz(config, f, params, extra);
    kerf_open();
    if (!config)
        return kerf_real.cuLaunchKernelEx_ptsz(config, f, params, extra);
    struct kerf_launch launch = { f, blocks(config->gridDimX, config->gridDimY, config->gridDimZ), own_stream(config->hStream) };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchKernelEx_ptsz(config, f, params, extra);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **params)
{
    if (is_free())
        return kerf_real.cuLaunchCooperativeKernel(f, gx, gy, gz, bx, by, bz, shared, stream, params);
    struct kerf_launch launch = { f, blocks(gx, gy, gz), stream };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchCooperativeKernel(f, gx, gy, gz, bx, by, bz, shared, stream, params);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared, CUstream stream, void **params)
{
    if (is_free())
        return kerf_real.cuLaunchCooperativeKernel_ptsz(f, gx, gy, gz, bx, by, bz, shared, stream, params);
    struct kerf_launch launch = { f, blocks(gx, gy, gz), own_stream(stream) };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchCooperativeKernel_ptsz(f, gx, gy, gz, bx, by, bz, shared, stream, params);
    kerf_gate_leave(&launch);
    return rc;
}

/* One launch over several cards: it passes the first one's gate and is counted as not fully gated. */
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *list, unsigned int count, unsigned int flags)
{
    if (is_free())
        return kerf_real.cuLaunchCooperativeKernelMultiDevice(list, count, flags);
    kerf_open();
    if (!list || !count)
        return kerf_real.cuLaunchCooperativeKernelMultiDevice(list, count, flags);
    struct kerf_launch launch = { list->function, 0, list->hStream };
    kerf_gate_enter(&launch);
    kerf_count(KERF_EVENT_UNCAPPED_WORK);
    CUresult rc = kerf_real.cuLaunchCooperativeKernelMultiDevice(list, count, flags);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunch(CUfunction f)
{
    if (is_free())
        return kerf_real.cuLaunch(f);
    struct kerf_launch launch = { f, 1, NULL };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunch(f);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunchGrid(CUfunction f, int width, int height)
{
    if (is_free())
        return kerf_real.cuLaunchGrid(f, width, height);
    struct kerf_launch launch = { f, blocks((unsigned)width, (unsigned)height, 1), NULL };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchGrid(f, width, height);
    kerf_gate_leave(&launch);
    return rc;
}

CUresult cuLaunchGridAsync(CUfunction f, int width, int height, CUstream stream)
{
    if (is_free())
        return kerf_real.cuLaunchGridAsync(f, width, height, stream);
    struct kerf_launch launch = { f, blocks((unsigned)width, (unsigned)height, 1), stream };
    kerf_gate_enter(&launch);
    CUresult rc = kerf_real.cuLaunchGridAsync(f, width, height, stream);
    kerf_gate_leave(&launch);
    return rc;
}

static CUresult launch_graph(CUgraphExec exec, CUstream stream, CUstream key, CUresult (*call)(CUgraphExec, CUstream))
{
    struct kerf_charge charge;
    CUresult rc = kerf_graph_admit(exec, &charge);
    if (rc != CUDA_SUCCESS)
        return rc;
    bool gated = !is_free();
    struct kerf_launch launch = { exec, 0, key };
    if (gated)
        kerf_gate_enter(&launch);
    rc = call(exec, stream);
    if (gated)
        kerf_gate_leave(&launch);
    kerf_graph_launched(&charge);
    return rc;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    if (is_free() && !__atomic_load_n(&kerf_cuda.graph_memory, __ATOMIC_RELAXED))
        return kerf_real.cuGraphLaunch(exec, stream);
    kerf_open();
    return launch_graph(exec, stream, stream, kerf_real.cuGraphLaunch);
}

CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream)
{
    if (is_free() && !__atomic_load_n(&kerf_cuda.graph_memory, __ATOMIC_RELAXED))
        return kerf_real.cuGraphLaunch_ptsz(exec, stream);
    kerf_open();
    return launch_graph(exec, stream, own_stream(stream), kerf_real.cuGraphLaunch_ptsz);
}
