/*
 * CUDA graphs: what their memory nodes make the driver reserve, and which streams are being captured.
 * The bytes a graph asks for are summed while it is built; a launch reserves them first and is then
 * settled with the driver's own figure.
 */
#include <string.h>

#include "cuda/cuda.h"

#define CAPTURE_KEY (1ULL << 63) /* keeps capture numbers apart from graph pointers */
#define LARGEST_STEP (32ull << 20)

static pthread_mutex_t settle_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t graph_charged[KERF_CARDS_MAX];
static uint64_t graph_pending[KERF_CARDS_MAX]; /* of these, for launches under way */
static uint64_t step[KERF_CARDS_MAX];    /* by which the driver takes memory for graphs, as far as seen; a power of two or 0 */

static void open_room(void)
{
    pthread_mutex_init(&settle_lock, NULL);
    kerf_cuda.graph_memory = kerf_cuda.capturing = 0;
    memset(graph_charged, 0, sizeof graph_charged);
    memset(graph_pending, 0, sizeof graph_pending);
}

const struct kerf_room kerf_graph_room = { .open = open_room };

static uint64_t key_of(const void *graph)
{
    return (uint64_t)(uintptr_t)graph;
}

static void add_bytes(uint64_t key, uint64_t bytes)
{
    struct kerf_entry entry = { .key = key };
    (void)!kerf_table_find(&kerf_cuda.graphs, key, &entry);
    entry.bytes += kerf_round(bytes);
    if (!kerf_table_put(&kerf_cuda.graphs, &entry))
        kerf_count(KERF_EVENT_TABLE_FULL);
    __atomic_store_n(&kerf_cuda.graph_memory, 1, __ATOMIC_RELEASE);
}

static uint64_t bytes_of(uint64_t key)
{
    struct kerf_entry entry;
    return kerf_table_find(&kerf_cuda.graphs, key, &entry) ? entry.bytes : 0;
}

static void forget(uint64_t key)
{
    struct kerf_entry entry;
    (void)!kerf_table_take(&kerf_cuda.graphs, key, &entry);
}

static bool remembers(void)
{
    return __atomic_load_n(&kerf_cuda.graph_memory, __ATOMIC_ACQUIRE);
}

void kerf_relaxed_begin(int *saved)
{
    *saved = CU_STREAM_CAPTURE_MODE_RELAXED;
    kerf_real.cuThreadExchangeStreamCaptureMode(saved);
}

void kerf_relaxed_end(const int *saved)
{
    int mode = *saved;
    kerf_real.cuThreadExchangeStreamCaptureMode(&mode);
}

/* Bytes a launch will make the driver take beyond what it holds for graphs. */
static uint64_t growth(struct kerf_entry *exec, int device, int card)
{
    uint64_t charged = __atomic_load_n(&graph_charged[card], __ATOMIC_RELAXED), used = charged;
    bool first = !exec->count;
    if (!first)
        return exec->bytes > charged ? exec->bytes - charged : 0; /* it has its memory, unless that was trimmed away */
    exec->count = 1;
    if (kerf_real.cuDeviceGetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &used) != CUDA_SUCCESS || used > charged)
        used = charged;
    uint64_t idle = charged - used;
    return exec->bytes > idle ? exec->bytes - idle : 0;
}

/* The same in the driver's steps. */
static uint64_t growth_in_steps(struct kerf_entry *exec, int device, int card)
{
    uint64_t more = growth(exec, device, card), grain = __atomic_load_n(&step[card], __ATOMIC_RELAXED);
    uint64_t charged = __atomic_load_n(&graph_charged[card], __ATOMIC_RELAXED);
    return more && grain ? (charged + more + grain - 1) / grain * grain - charged : more;
}

static void learn_step(int card, uint64_t reserved, uint64_t charged)
{
    uint64_t grain = 1;
    while (grain <= reserved - charged && grain < LARGEST_STEP)
        grain <<= 1;
    if (grain > step[card] && grain > reserved - charged && reserved % grain == 0)
        __atomic_store_n(&step[card], grain, __ATOMIC_RELAXED);
}

/* Before the launch: what the graph will need must fit. */
CUresult kerf_graph_admit(CUgraphExec exec, struct kerf_charge *charge)
{
    struct kerf_entry entry;
    *charge = (struct kerf_charge){ .card = KERF_NO_CARD };
    if (!remembers() || !kerf_table_find(&kerf_cuda.graphs, key_of(exec), &entry) || !entry.bytes)
        return CUDA_SUCCESS;
    if (!kerf_go_live())
        return CUDA_ERROR_OUT_OF_MEMORY;
    int device = kerf_current_device(), card = device < 0 ? KERF_NO_CARD : kerf_card_of(device);
    if (card < 0)
        return card == KERF_UNKNOWN_CARD ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
    kerf_overhead_context(card);
    uint64_t more = growth_in_steps(&entry, device, card);
    if (!more)
        return CUDA_SUCCESS;
    kerf_pending_add(card, more);
    if (!kerf_reserve(card, more, KERF_KIND_GRAPH)) {
        kerf_pending_take(card, more);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *charge = (struct kerf_charge){ .card = card, .kind = KERF_KIND_GRAPH, .bytes = more, .pending = more };
    pthread_mutex_lock(&settle_lock);
    graph_pending[card] += more;
    __atomic_add_fetch(&graph_charged[card], more, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&settle_lock);
    kerf_growing_begin(card);
    (void)!kerf_table_put(&kerf_cuda.graphs, &entry); /* the row is there */
    return CUDA_SUCCESS;
}

static void settle_device(int device, int card)
{
    uint64_t reserved = 0;
    if (kerf_real.cuDeviceGetGraphMemAttribute(device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved) != CUDA_SUCCESS)
        return;
    uint64_t charged = graph_charged[card], want = kerf_within(charged, reserved, reserved + graph_pending[card]);
    if (want > charged) {
        learn_step(card, reserved, charged);
        kerf_force(card, want - charged, KERF_KIND_GRAPH);
    }
    kerf_release(card, want < charged ? charged - want : 0, KERF_KIND_GRAPH);
    __atomic_store_n(&graph_charged[card], want, __ATOMIC_RELAXED);
}

/* After a launch, a trim, or when memory is short: charge what the driver holds for graphs. */
void kerf_graph_settle(void)
{
    if (!remembers())
        return;
    int saved;
    kerf_relaxed_begin(&saved);
    pthread_mutex_lock(&settle_lock);
    for (int device = 0; device < kerf_cuda.devices; device++)
        if (kerf_cuda.card_of_device[device] >= 0)
            settle_device(device, kerf_cuda.card_of_device[device]);
    pthread_mutex_unlock(&settle_lock);
    kerf_relaxed_end(&saved);
}

/* The launch that `charge` was for has returned, with or without success: charge the driver's own figure. */
void kerf_graph_launched(struct kerf_charge *charge)
{
    if (charge->card >= 0) {
        pthread_mutex_lock(&settle_lock);
        graph_pending[charge->card] -= charge->bytes;
        pthread_mutex_unlock(&settle_lock);
    }
    kerf_charge_done(charge);
    kerf_graph_settle();
    kerf_growing_end(charge->card);
}

bool kerf_stream_captures(CUstream stream)
{
    int status = CU_STREAM_CAPTURE_STATUS_NONE;
    return kerf_real.cuStreamIsCapturing(stream, &status) == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

static uint64_t capture_key(CUstream stream)
{
    int status = CU_STREAM_CAPTURE_STATUS_NONE;
    uint64_t id = 0;
    if (kerf_real.cuStreamGetCaptureInfo_v2(stream, &status, &id, NULL, NULL, NULL) != CUDA_SUCCESS)
        return 0;
    return status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? CAPTURE_KEY | id : 0;
}

void kerf_graph_captured_alloc(CUstream stream, uint64_t bytes)
{
    uint64_t key = capture_key(stream);
    if (key)
        add_bytes(key, bytes);
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
    kerf_open();
    CUresult rc = kerf_real.cuGraphAddMemAllocNode(out, graph, after, count, params);
    if (rc == CUDA_SUCCESS && kerf.stage >= KERF_STAGE_OPEN)
        add_bytes(key_of(graph), params->bytesize);
    return rc;
}

static void note_node(CUresult rc, CUgraph graph, const CUgraphNodeParams *params)
{
    if (rc == CUDA_SUCCESS && kerf.stage >= KERF_STAGE_OPEN && params->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
        add_bytes(key_of(graph), params->alloc.bytesize);
}

CUresult cuGraphAddNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count, CUgraphNodeParams *params)
{
    kerf_open();
    CUresult rc = kerf_real.cuGraphAddNode(out, graph, after, count, params);
    note_node(rc, graph, params);
    return rc;
}

CUresult cuGraphAddNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, const void *edges, size_t count, CUgraphNodeParams *params)
{
    kerf_open();
    CUresult rc = kerf_real.cuGraphAddNode_v2(out, graph, after, edges, count, params);
    note_node(rc, graph, params);
    return rc;
}

static CUresult instantiated(CUresult rc, const CUgraphExec *exec, CUgraph graph)
{
    uint64_t bytes = rc == CUDA_SUCCESS && remembers() ? bytes_of(key_of(graph)) : 0;
    if (bytes)
        add_bytes(key_of(*exec), bytes);
    return rc;
}

CUresult cuGraphInstantiate(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
    kerf_open();
    return instantiated(kerf_real.cuGraphInstantiate(out, graph, error, log, size), out, graph);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *out, CUgraph graph, CUgraphNode *error, char *log, size_t size)
{
    kerf_open();
    return instantiated(kerf_real.cuGraphInstantiate_v2(out, graph, error, log, size), out, graph);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph, unsigned long long flags)
{
    kerf_open();
    return instantiated(kerf_real.cuGraphInstantiateWithFlags(out, graph, flags), out, graph);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *out, CUgraph graph, void *params)
{
    kerf_open();
    return instantiated(kerf_real.cuGraphInstantiateWithParams(out, graph, params), out, graph);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *out, CUgraph graph, void *params)
{
    kerf_open();
    return instantiated(kerf_real.cuGraphInstantiateWithParams_ptsz(out, graph, params), out, graph);
}

CUresult cuGraphDestroy(CUgraph graph)
{
    kerf_open();
    if (remembers())
        forget(key_of(graph));
    return kerf_real.cuGraphDestroy(graph);
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    kerf_open();
    if (remembers())
        forget(key_of(exec));
    return kerf_real.cuGraphExecDestroy(exec);
}

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
    kerf_open();
    CUresult rc = kerf_real.cuDeviceGraphMemTrim(device);
    kerf_graph_settle();
    return rc;
}

static CUresult upload(CUgraphExec exec, CUstream stream, CUresult (*call)(CUgraphExec, CUstream))
{
    struct kerf_charge charge;
    CUresult rc = kerf_graph_admit(exec, &charge);
    if (rc != CUDA_SUCCESS)
        return rc;
    rc = call(exec, stream);
    kerf_graph_launched(&charge);
    return rc;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
    kerf_open();
    return upload(exec, stream, kerf_real.cuGraphUpload);
}

CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream)
{
    kerf_open();
    return upload(exec, stream, kerf_real.cuGraphUpload_ptsz);
}

static CUresult began(CUresult rc)
{
    if (rc == CUDA_SUCCESS)
        __atomic_add_fetch(&kerf_cuda.capturing, 1, __ATOMIC_ACQ_REL);
    return rc;
}

CUresult cuStreamBeginCapture(CUstream stream)
{
    kerf_open();
    return began(kerf_real.cuStreamBeginCapture(stream));
}

CUresult cuStreamBeginCapture_ptsz(CUstream stream)
{
    kerf_open();
    return began(kerf_real.cuStreamBeginCapture_ptsz(stream));
}

CUresult cuStreamBeginCapture_v2(CUstream stream, int mode)
{
    kerf_open();
    return began(kerf_real.cuStreamBeginCapture_v2(stream, mode));
}

CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, int mode)
{
    kerf_open();
    return began(kerf_real.cuStreamBeginCapture_v2_ptsz(stream, mode));
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode *after, const void *edges, size_t count, int mode)
{
    kerf_open();
    return began(kerf_real.cuStreamBeginCaptureToGraph(stream, graph, after, edges, count, mode));
}

CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const CUgraphNode *after, const void *edges, size_t count, int mode)
{
    kerf_open();
    return began(kerf_real.cuStreamBeginCaptureToGraph_ptsz(stream, graph, after, edges, count, mode));
}

/* A capture that failed has ended too; a stream that was not capturing has ended nothing. */
static bool was_capturing(CUresult rc)
{
    return rc == CUDA_SUCCESS || (rc >= CUDA_ERROR_STREAM_CAPTURE_FIRST && rc <= CUDA_ERROR_STREAM_CAPTURE_LAST);
}

static CUresult ended(CUresult rc, uint64_t capture, const CUgraph *graph)
{
    if (!was_capturing(rc))
        return rc;
    int under_way = __atomic_load_n(&kerf_cuda.capturing, __ATOMIC_ACQUIRE);
    while (under_way > 0 && !__atomic_compare_exchange_n(&kerf_cuda.capturing, &under_way, under_way - 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
    uint64_t bytes = capture ? bytes_of(capture) : 0;
    if (bytes && rc == CUDA_SUCCESS && graph && *graph)
        add_bytes(key_of(*graph), bytes);
    if (bytes)
        forget(capture);
    return rc;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    kerf_open();
    uint64_t capture = remembers() ? capture_key(stream) : 0;
    return ended(kerf_real.cuStreamEndCapture(stream, graph), capture, graph);
}

CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph)
{
    kerf_open();
    uint64_t capture = remembers() ? capture_key(stream ? stream : CU_STREAM_PER_THREAD) : 0;
    return ended(kerf_real.cuStreamEndCapture_ptsz(stream, graph), capture, graph);
}
