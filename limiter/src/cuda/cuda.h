/* The CUDA wrappers: memory of every kind, contexts, and launches that pass the gate. */
#ifndef KERF_CUDA_LAYER_H
#define KERF_CUDA_LAYER_H

#include "arbiter/arbiter.h"
#include "driver/driver.h"
#include "ledger/ledger.h"
#include "nvml/nvml.h"

#define KERF_DEVICES_MAX 64

/* What the files of this layer share. */
struct kerf_cuda {
    int only_card; /* the gated card when every visible card maps to it, else KERF_NO_CARD */
    int capturing; /* stream captures under way in this process */
    int graph_memory; /* 1 once any graph asked for memory */
    int devices; /* 0 = not yet mapped */
    int16_t card_of_device[KERF_DEVICES_MAX];
    CUcontext primary[KERF_DEVICES_MAX];
    struct kerf_table pointers; /* device pointers */
    struct kerf_table handles;  /* VMM handles */
    struct kerf_table mappings; /* VMM mappings by start address */
    struct kerf_table arrays;   /* arrays and mipmapped arrays */
    struct kerf_table graphs;   /* graphs, executable graphs and captures: bytes their alloc nodes ask for */
};

extern struct kerf_cuda kerf_cuda;

/* device.c */
int kerf_current_device(void); /* ordinal of the current context's device, -1 = none */
int kerf_card_of(int device);  /* ledger card, KERF_NO_CARD or KERF_UNKNOWN_CARD */
extern const struct kerf_room kerf_device_room;

/* charge.c: reserve first, allocate, then keep or drop */
struct kerf_charge {
    int card; /* KERF_NO_CARD: nothing was charged */
    int kind;
    uint64_t bytes;
    uint64_t pending; /* of these, still counted as pending */
};
KERF_MUST_CHECK CUresult kerf_charge_begin(struct kerf_charge *charge, int device, uint64_t bytes, enum kerf_kind kind);
void kerf_charge_drop(struct kerf_charge *charge);
void kerf_charge_done(struct kerf_charge *charge); /* kept without a row of its own: the call is over */
KERF_MUST_CHECK bool kerf_charge_keep(struct kerf_charge *charge, struct kerf_table *table, uint64_t key);
void kerf_purge_context(CUcontext ctx); /* it is gone, and with it all that lived in it */

/* memory.c */
KERF_MUST_CHECK bool kerf_pointer_take(CUdeviceptr ptr, struct kerf_entry *entry); /* before the driver's free; false: not ours */
CUresult kerf_pointer_freed(CUresult rc, const struct kerf_entry *entry);           /* after it */

/* pool.c */
void kerf_pools_refresh(bool trim);
void kerf_pools_reclaim(void);
void kerf_pool_freed(void *pool, uint64_t bytes);
extern const struct kerf_room kerf_pool_room;

/* vmm.c */
extern const struct kerf_room kerf_vmm_room;

/* graph.c */
KERF_MUST_CHECK CUresult kerf_graph_admit(CUgraphExec exec, struct kerf_charge *charge);
void kerf_graph_launched(struct kerf_charge *charge);
void kerf_graph_settle(void);
void kerf_graph_captured_alloc(CUstream stream, uint64_t bytes);
KERF_MUST_CHECK bool kerf_stream_captures(CUstream stream);
void kerf_relaxed_begin(int *saved); /* our own driver calls must not break a stream capture */
void kerf_relaxed_end(const int *saved);
extern const struct kerf_room kerf_graph_room;

/* gate.c */
struct kerf_launch {
    const void *what; /* function or executable graph */
    uint64_t size;    /* blocks; 0: several kernels, of which the card may begin the first before the call returns */
    CUstream stream;  /* NULL = legacy default stream; CU_STREAM_PER_THREAD = this thread's */
};
void kerf_gate_enter(const struct kerf_launch *launch);
void kerf_gate_leave(const struct kerf_launch *launch);
struct kerf_gate;
struct kerf_gate *kerf_gate_sync_begin(void); /* NULL: nothing to wait for, or not limited */
void kerf_gate_sync_end(struct kerf_gate *gate);
void kerf_gate_forget_stream(CUstream stream);
void kerf_gate_forget_context(CUcontext ctx);
extern const struct kerf_room kerf_gate_room;

#endif
