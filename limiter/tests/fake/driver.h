/* What the fake driver's files share, and prototypes of all it exports. */
#ifndef KERF_FAKE_DRIVER_H
#define KERF_FAKE_DRIVER_H

#include "fake.h"

#define EXPORT __attribute__((visibility("default")))
#define CUDA_HOOK(symbol, base, version, stream, params) EXPORT CUresult symbol params;
#define CUDA_NEED(symbol, params) EXPORT CUresult symbol params;
#define NVML_HOOK(symbol, params)
#define NVML_NEED(symbol, params)
#include "driver/hooks.def"
#undef CUDA_HOOK
#undef CUDA_NEED

EXPORT CUresult cuDriverGetVersion(int *version);
EXPORT CUresult cuDeviceGet(CUdevice *out, int ordinal);
EXPORT CUresult cuCtxCreate_v2(CUcontext *out, unsigned int flags, CUdevice device);
EXPORT CUresult cuCtxSetCurrent(CUcontext ctx);
EXPORT CUresult cuStreamCreate(CUstream *out, unsigned int flags);
EXPORT CUresult cuGraphCreate(CUgraph *out, unsigned int flags);
EXPORT CUresult cuGetExportTable(const void **table, const CUuuid *id);
EXPORT CUresult cuMemAddressReserve(CUdeviceptr *out, size_t bytes, size_t alignment, CUdeviceptr address, unsigned long long flags);
EXPORT CUresult cuMemAddressFree(CUdeviceptr ptr, size_t bytes);
EXPORT CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value);
EXPORT CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool);

#define GRAPH_NODES 8

struct CUgraph_st {
    uint64_t id, duration_ns;
    int nodes;
    int node[GRAPH_NODES]; /* index into all_nodes */
};

struct CUstream_st {
    int card;
    struct CUgraph_st *capture;
};

static inline bool fake_is_stream(CUstream stream) /* and not one of the numbers for default streams */
{
    return (uintptr_t)stream > 2;
}

int fake_current_card(void);   /* -1: no context */
int fake_current_device(void);
CUresult fake_run(uint64_t duration_ns, CUstream stream);
CUdeviceptr fake_capture_alloc(CUstream stream, size_t bytes); /* 0: not capturing */
bool fake_free_node(CUdeviceptr ptr);
void fake_drop_context(int card);

#endif
