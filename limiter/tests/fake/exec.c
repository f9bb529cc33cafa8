/* The fake driver's look-ups, contexts, streams, events, launches and graphs. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake.h"
#include "driver.h"

struct CUctx_st {
    int device, card;
    bool primary, active;
};

struct CUstream_st {
    int card;
    struct CUgraph_st *capture;
};

struct CUevent_st {
    int card;
    bool recorded, known;
    uint64_t number, done_at;
};

#define GRAPH_NODES 8

/* Memory of a graph's allocation node: there from its first launch until someone frees it. */
struct node {
    CUdeviceptr ptr;
    uint64_t bytes;
    bool live;
};

struct CUgraph_st {
    uint64_t id, duration_ns;
    int nodes;
    int node[GRAPH_NODES]; /* index into all_nodes */
};

struct CUgraphExec_st {
    uint64_t duration_ns;
    int nodes;
    int node[GRAPH_NODES];
};

#define NODES 8192
#define NODE_ADDRESS 0x600000000000ull /* no block of ours lies there */
static struct node all_nodes[NODES];
static int node_count;

static struct CUctx_st primaries[FAKE_CARDS];
static __thread struct CUctx_st *current;
static __thread struct CUctx_st *pushed[16];
static __thread int depth;
static __thread int capture_mode;
static uint64_t launches, captures, fast_clock;
static uint64_t graph_reserved[FAKE_CARDS], graph_used[FAKE_CARDS];
static int initialised;

uint64_t fake_launches(void)
{
    return __atomic_load_n(&launches, __ATOMIC_RELAXED);
}

int fake_current_card(void)
{
    return current ? current->card : -1;
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
    memset(stream, 0xdd, sizeof *stream); /* whoever still uses it shall trip */
    free(stream);
    return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream)
{
    return cuStreamDestroy_v2(stream);
}

static bool handle(CUstream stream)
{
    return (uintptr_t)stream > 2;
}

CUresult cuStreamSynchronize(CUstream stream)
{
    (void)stream;
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    fake_wait_all(current->card);
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, int *status)
{
    *status = handle(stream) && stream->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo_v2(CUstream stream, int *status, uint64_t *id, CUgraph *graph, const CUgraphNode **after, size_t *count)
{
    (void)graph;
    (void)after;
    (void)count;
    cuStreamIsCapturing(stream, status);
    if (*status && id)
        *id = stream->capture->id;
    return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(int *mode)
{
    int before = capture_mode;
    capture_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

CUresult cuGraphCreate(CUgraph *out, unsigned int flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    (*out)->id = __atomic_add_fetch(&captures, 1, __ATOMIC_RELAXED);
    return CUDA_SUCCESS;
}

static CUresult begin(CUstream stream)
{
    if (!handle(stream) || stream->capture)
        return 901;
    return cuGraphCreate(&stream->capture, 0);
}

CUresult cuStreamBeginCapture(CUstream stream) { return begin(stream); }
CUresult cuStreamBeginCapture_ptsz(CUstream stream) { return begin(stream); }
CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) { (void)mode; return begin(stream); }
CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, int mode) { (void)mode; return begin(stream); }

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode *after, const void *edges, size_t count, int mode)
{
    (void)after; (void)edges; (void)count; (void)mode;
    if (!handle(stream) || stream->capture)
        return 901;
    stream->capture = graph;
    return CUDA_SUCCESS;
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const CUgraphNode *after, const void *edges, size_t count, int mode)
{
    return cuStreamBeginCaptureToGraph(stream, graph, after, edges, count, mode);
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    if (!handle(stream) || !stream->capture)
        return 401;
    *graph = stream->capture;
    stream->capture = NULL;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph) { return cuStreamEndCapture(stream, graph); }

static CUdeviceptr add_node(CUgraph graph, size_t bytes)
{
    int i = __atomic_fetch_add(&node_count, 1, __ATOMIC_RELAXED);
    if (i >= NODES || graph->nodes == GRAPH_NODES)
        abort();
    all_nodes[i] = (struct node){ NODE_ADDRESS + (unsigned)i * 64u, bytes, false };
    graph->node[graph->nodes++] = i;
    return all_nodes[i].ptr;
}

CUdeviceptr fake_capture_alloc(CUstream stream, size_t bytes)
{
    return handle(stream) && stream->capture ? add_node(stream->capture, bytes) : 0;
}

bool fake_free_node(CUdeviceptr ptr)
{
    if (ptr < NODE_ADDRESS || ptr >= NODE_ADDRESS + NODES * 64)
        return false;
    struct node *node = &all_nodes[(ptr - NODE_ADDRESS) / 64];
    if (node->live)
        graph_used[current->device] -= node->bytes;
    node->live = false;
    return true;
}

/* The nodes that can be added by hand: memory, and a kernel given by its duration. */
CUresult cuGraphAddMemAllocNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
    (void)after; (void)count;
    params->dptr = add_node(graph, params->bytesize);
    *out = (CUgraphNode)graph;
    return CUDA_SUCCESS;
}

CUresult cuGraphAddNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUgraphNodeParams *params)
{
    if (params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        return cuGraphAddMemAllocNode(out, graph, after, count, &params->alloc);
    *out = (CUgraphNode)graph;
    return CUDA_SUCCESS;
}

CUresult cuGraphAddNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, const void *edges, size_t count, CUgraphNodeParams *params)
{
    (void)edges;
    return cuGraphAddNode(out, graph, after, count, params);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    (*out)->duration_ns = graph->duration_ns;
    (*out)->nodes = graph->nodes;
    memcpy((*out)->node, graph->node, sizeof graph->node);
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
    (void)error; (void)log; (void)size;
    return cuGraphInstantiateWithFlags(out, graph, 0);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
    return cuGraphInstantiate(out, graph, error, log, size);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *out, CUgraph graph, void *params)
{
    (void)params;
    return cuGraphInstantiateWithFlags(out, graph, 0);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *out, CUgraph graph, void *params)
{
    return cuGraphInstantiateWithParams(out, graph, params);
}

CUresult cuGraphDestroy(CUgraph graph)
{
    free(graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    free(exec);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetGraphMemAttribute(CUdevice device, int attribute, void *value)
{
    if (fake_physical(device) < 0 || (attribute != CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT && attribute != CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT))
        return CUDA_ERROR_INVALID_VALUE;
    *(uint64_t *)value = attribute == CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT ? graph_used[device] : graph_reserved[device];
    return CUDA_SUCCESS;
}

static uint64_t in_graph_steps(uint64_t bytes)
{
    uint64_t step = fake_setting("FAKE_GRAPH_MIB", 2) << 20;
    return (bytes + step - 1) / step * step;
}

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
    uint64_t keep = in_graph_steps(graph_used[device]);
    fake_give_memory(fake_physical(device), graph_reserved[device] - keep);
    graph_reserved[device] = keep;
    return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
    (void)stream;
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    uint64_t *used = &graph_used[current->device], *reserved = &graph_reserved[current->device], need = *used;
    for (int i = 0; i < exec->nodes; i++)
        need += all_nodes[exec->node[i]].live ? 0 : all_nodes[exec->node[i]].bytes;
    if (need > *reserved) {
        if (!fake_take_memory(current->card, in_graph_steps(need) - *reserved))
            return CUDA_ERROR_OUT_OF_MEMORY;
        *reserved = in_graph_steps(need);
    }
    for (int i = 0; i < exec->nodes; i++)
        all_nodes[exec->node[i]].live = true;
    *used = need;
    return CUDA_SUCCESS;
}

CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream) { return cuGraphUpload(exec, stream); }

static CUresult run(uint64_t duration_ns, CUstream stream)
{
    if (fake_fast()) {
        fast_clock += duration_ns; /* as if the card were never late */
        return CUDA_SUCCESS;
    }
    if (!current)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (handle(stream) && stream->capture) {
        stream->capture->duration_ns += duration_ns;
        return CUDA_SUCCESS;
    }
    __atomic_add_fetch(&launches, 1, __ATOMIC_RELAXED);
    fake_submit(current->card, duration_ns);
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    CUresult rc = exec->nodes ? cuGraphUpload(exec, stream) : CUDA_SUCCESS;
    return rc == CUDA_SUCCESS ? run(exec->duration_ns, stream) : rc;
}

CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) { return cuGraphLaunch(exec, stream); }

#define LAUNCH_ARGS unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared
#define IGNORE_ARGS (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz; (void)shared
#define RUN(f) run((uint64_t)(uintptr_t)(f), stream)

CUresult cuLaunchKernel(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params, void **extra) { IGNORE_ARGS; (void)params; (void)extra; return RUN(f); }
CUresult cuLaunchKernel_ptsz(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params, void **extra) { IGNORE_ARGS; (void)params; (void)extra; return RUN(f); }
CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **params, void **extra) { (void)params; (void)extra; return run((uint64_t)(uintptr_t)f, config->hStream); }
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f, void **params, void **extra) { return cuLaunchKernelEx(config, f, params, extra); }
CUresult cuLaunchCooperativeKernel(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params) { IGNORE_ARGS; (void)params; return RUN(f); }
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction f, LAUNCH_ARGS, CUstream stream, void **params) { IGNORE_ARGS; (void)params; return RUN(f); }
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *list, unsigned int count, unsigned int flags) { (void)count; (void)flags; return run((uint64_t)(uintptr_t)list->function, list->hStream); }
CUresult cuLaunch(CUfunction f) { return run((uint64_t)(uintptr_t)f, NULL); }
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
    if (handle(stream) && stream->capture)
        return CUDA_SUCCESS; /* becomes part of the capture; the event is not usable then */
    event->recorded = true;
    event->known = fake_fast();
    event->done_at = fast_clock;
    if (!event->known)
        event->number = fake_submit(event->card, 0);
    return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event)
{
    if (!current || current->card != event->card)
        return CUDA_ERROR_INVALID_CONTEXT; /* stricter than the real one */
    if (!event->recorded || event->known)
        return CUDA_SUCCESS;
    event->known = fake_over(event->card, event->number, &event->done_at);
    return event->known ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent event)
{
    while (cuEventQuery(event) == CUDA_ERROR_NOT_READY)
        usleep(20);
    return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *ms, CUevent start, CUevent end)
{
    if (cuEventQuery(start) || cuEventQuery(end))
        return CUDA_ERROR_NOT_READY;
    *ms = (float)((double)(int64_t)(end->done_at - start->done_at) / 1e6);
    return CUDA_SUCCESS;
}
