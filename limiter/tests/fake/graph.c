/* The fake driver's graphs: captures, memory nodes, and what the driver holds for them. */
#include <stdlib.h>
#include <string.h>

#include "driver.h"

/* Memory of a graph's allocation node: there from its first launch until someone frees it. */
struct node {
    CUdeviceptr ptr;
    uint64_t bytes;
    bool live;
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
static uint64_t captures;
static uint64_t graph_reserved[FAKE_CARDS], graph_used[FAKE_CARDS]; /* by device */

CUresult cuStreamIsCapturing(CUstream stream, int *status)
{
    *status = fake_is_stream(stream) && stream->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
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

CUresult cuGraphCreate(CUgraph *out, unsigned int flags)
{
    (void)flags;
    *out = calloc(1, sizeof **out);
    (*out)->id = __atomic_add_fetch(&captures, 1, __ATOMIC_RELAXED);
    return CUDA_SUCCESS;
}

static CUresult begin(CUstream stream)
{
    if (!fake_is_stream(stream) || stream->capture)
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
    if (!fake_is_stream(stream) || stream->capture)
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
    if (!fake_is_stream(stream) || !stream->capture)
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
    return fake_is_stream(stream) && stream->capture ? add_node(stream->capture, bytes) : 0;
}

bool fake_free_node(CUdeviceptr ptr)
{
    if (ptr < NODE_ADDRESS || ptr >= NODE_ADDRESS + NODES * 64)
        return false;
    struct node *node = &all_nodes[(ptr - NODE_ADDRESS) / 64];
    if (node->live)
        graph_used[fake_current_device()] -= node->bytes;
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
    if (fake_current_device() < 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    uint64_t *used = &graph_used[fake_current_device()], *reserved = &graph_reserved[fake_current_device()], need = *used;
    for (int i = 0; i < exec->nodes; i++)
        need += all_nodes[exec->node[i]].live ? 0 : all_nodes[exec->node[i]].bytes;
    if (need > *reserved) {
        if (!fake_take_memory(fake_current_card(), in_graph_steps(need) - *reserved))
            return CUDA_ERROR_OUT_OF_MEMORY;
        *reserved = in_graph_steps(need);
        fake_linger();
    }
    for (int i = 0; i < exec->nodes; i++)
        all_nodes[exec->node[i]].live = true;
    *used = need;
    return CUDA_SUCCESS;
}

CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream) { return cuGraphUpload(exec, stream); }

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    CUresult rc = exec->nodes ? cuGraphUpload(exec, stream) : CUDA_SUCCESS;
    return rc == CUDA_SUCCESS ? fake_run(exec->duration_ns, stream) : rc;
}

CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) { return cuGraphLaunch(exec, stream); }
