/* What the library's files share: one state, and each file's few entry points. */
#ifndef KERF_H
#define KERF_H

#include <pthread.h>
#include <stdbool.h>

#include "kerf/cuda_abi.h"
#include "kerf/ledger.h"

#define KERF_EXPORT __attribute__((visibility("default")))
#define KERF_MUST_CHECK __attribute__((warn_unused_result))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define KERF_DEVICES_MAX 64
#define KERF_NO_CARD (-1)      /* not limited by Kerf */
#define KERF_UNKNOWN_CARD (-2) /* visible to the process, absent from its ledger: nothing may be allocated */

/* The driver's own functions, as hooks.def lists them. */
struct kerf_real {
#define CUDA_HOOK(symbol, base, version, stream, params) CUresult(*symbol) params;
#define CUDA_NEED(symbol, params) CUresult(*symbol) params;
#define NVML_HOOK(symbol, params) nvmlReturn_t(*symbol) params;
#define NVML_NEED(symbol, params) nvmlReturn_t(*symbol) params;
#include "hooks.def"
#undef CUDA_HOOK
#undef CUDA_NEED
#undef NVML_HOOK
#undef NVML_NEED
};

#define CUDA_HOOK(symbol, base, version, stream, params) KERF_EXPORT CUresult symbol params;
#define CUDA_NEED(symbol, params)
#define NVML_HOOK(symbol, params) KERF_EXPORT nvmlReturn_t symbol params;
#define NVML_NEED(symbol, params)
#include "hooks.def"
#undef CUDA_HOOK
#undef CUDA_NEED
#undef NVML_HOOK
#undef NVML_NEED

enum kerf_stage {
    KERF_STAGE_NEW = 0,    /* nothing looked at yet */
    KERF_STAGE_PASS = 1,   /* no ledger asked for: every call goes straight through */
    KERF_STAGE_CLOSED = 2, /* a ledger was named but cannot be used: memory is refused */
    KERF_STAGE_OPEN = 3,   /* ledger mapped, read only so far */
    KERF_STAGE_LIVE = 4,   /* this process has a slot */
};

/* table.c: a sharded hash from a 64-bit key to what was charged for it. */
struct kerf_entry {
    uint64_t key;
    uint64_t bytes;
    void *object; /* the context it lives in, or a VMM allocation, or a pool */
    int16_t card;
    uint16_t kind; /* enum kerf_kind */
    uint32_t count;
};

#define KERF_TABLE_SHARDS 64
struct kerf_shard {
    pthread_mutex_t lock;
    struct kerf_entry *rows;
    uint64_t room; /* a power of two, or 0 */
    uint64_t used;
} __attribute__((aligned(64)));

struct kerf_table {
    struct kerf_shard shards[KERF_TABLE_SHARDS];
};

void kerf_table_init(struct kerf_table *table);
KERF_MUST_CHECK bool kerf_table_put(struct kerf_table *table, const struct kerf_entry *entry);
KERF_MUST_CHECK bool kerf_table_take(struct kerf_table *table, uint64_t key, struct kerf_entry *out);
KERF_MUST_CHECK bool kerf_table_find(struct kerf_table *table, uint64_t key, struct kerf_entry *out);

void kerf_table_purge(struct kerf_table *table, const void *object, void (*gone)(const struct kerf_entry *));

struct kerf_pool;

/* Everything this process knows. */
struct kerf_state {
    /* Read on every launch, so first and together. */
    int launch_free; /* 1: launches are neither counted nor held back */
    int open;        /* 1: CUDA is bound and the ledger looked for */
    int stage;       /* enum kerf_stage */
    int gated_cards; /* cards of the ledger with a compute limit */
    int only_card;   /* the gated card when every visible card maps to it, else KERF_NO_CARD */
    struct kerf_real real;
    int cuda_bound, nvml_bound, bound_by_address;

    pthread_mutex_t start_lock;
    struct kerf_ledger *ledger;
    uint64_t tenant_id;
    int slot; /* index of our slot, -1 = none */
    int pid;
    pthread_t pacer;
    int pacer_ready;        /* 0 starting, 1 has a slot, -1 failed */
    pthread_mutex_t move_lock; /* one change to a `charged` word at a time per process */

    int16_t card_of_device[KERF_DEVICES_MAX];
    int devices; /* 0 = not yet mapped */
    CUcontext primary[KERF_DEVICES_MAX];

    struct kerf_table pointers; /* device pointers */
    struct kerf_table handles;  /* VMM handles */
    struct kerf_table mappings; /* VMM mappings by start address */
    struct kerf_table arrays;   /* arrays and mipmapped arrays */
    struct kerf_table graphs;   /* graphs, executable graphs and captures: bytes their alloc nodes ask for */
    pthread_mutex_t vmm_lock;
    pthread_mutex_t pool_lock;
    struct kerf_pool *pools;
    int graph_memory; /* 1 once any graph asked for memory */
    int capturing;    /* stream captures under way in this process */
    uint64_t graph_charged[KERF_CARDS_MAX];
    uint64_t graph_pending[KERF_CARDS_MAX]; /* of these, for launches under way */
    uint64_t kinds[KERF_CARDS_MAX][KERF_KINDS]; /* charged by this process */
    uint64_t pending[KERF_CARDS_MAX]; /* of these, for calls under way: the driver may hold them already, or not yet */
    uint32_t overhead_seen; /* bit per card: its overhead was measured before memory was first asked for */
};

extern struct kerf_state kerf;


/* start.c */
void kerf_start(void);       /* bind CUDA and look for the ledger */
void kerf_open_ledger(void); /* the latter alone; after it kerf.stage is not NEW */
KERF_MUST_CHECK bool kerf_go_live(void); /* take a slot; false: passing, or closed */
void kerf_count(enum kerf_event event);
void kerf_say(const char *text); /* one line on stderr, prefixed */
uint64_t kerf_now_ns(void);

/* bind.c */
void kerf_bind_cuda(void *handle, bool load);
void kerf_bind_nvml(void *handle, bool load);
void *kerf_wrapper_by_name(const char *name, void **real);
void *kerf_wrapper_by_address(void *real);
KERF_MUST_CHECK bool kerf_has(const void *function);

/* symbols.c */
extern void *kerf_real_dlsym;
extern void *kerf_real_dlvsym;
void *kerf_find_real(void *handle, const char *name);
void kerf_resolve_symbols(void);
int kerf_takes_over(const char *name);
void *kerf_dlsym(void *handle, const char *name);
void *kerf_dlvsym(void *handle, const char *name, const char *version);

/* ledger.c */
KERF_MUST_CHECK struct kerf_ledger *kerf_ledger_map(const char *path, const char **why);
KERF_MUST_CHECK int kerf_slot_claim(struct kerf_ledger *ledger); /* the calling thread keeps it alive */
void kerf_slot_sweep(struct kerf_ledger *ledger, int own);
KERF_MUST_CHECK bool kerf_slot_move(struct kerf_ledger *ledger, unsigned slot, unsigned card, int64_t delta, uint64_t limit);
void kerf_slot_recover(struct kerf_ledger *ledger, unsigned slot);
uint64_t kerf_charged(const struct kerf_ledger *ledger, unsigned card);

/* `value`, or the nearest that is not outside lowest..highest. */
static inline uint64_t kerf_within(uint64_t value, uint64_t lowest, uint64_t highest)
{
    return value < lowest ? lowest : value > highest ? highest : value;
}

static inline void kerf_open(void)
{
    if (unlikely(!__atomic_load_n(&kerf.open, __ATOMIC_ACQUIRE)))
        kerf_start();
}

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
void kerf_pending_add(int card, uint64_t bytes);
void kerf_pending_take(int card, uint64_t bytes);
KERF_MUST_CHECK bool kerf_charge_keep(struct kerf_charge *charge, struct kerf_table *table, uint64_t key);
KERF_MUST_CHECK bool kerf_reserve(int card, uint64_t bytes, enum kerf_kind kind);
KERF_MUST_CHECK bool kerf_reserve_plain(int card, uint64_t bytes, enum kerf_kind kind); /* without a second try */
void kerf_force(int card, uint64_t bytes, enum kerf_kind kind); /* charge even above the limit: it is already used */
void kerf_release(int card, uint64_t bytes, enum kerf_kind kind);
void kerf_purge_context(CUcontext ctx); /* it is gone, and with it all that lived in it */
uint64_t kerf_round(uint64_t bytes);
int kerf_current_device(void); /* ordinal of the current context's device, -1 = none */
int kerf_card_of(int device);  /* ledger card, KERF_NO_CARD or KERF_UNKNOWN_CARD */

/* pool.c, graph.c, overhead.c: what the driver holds beyond single allocations */
void kerf_pools_refresh(bool trim);
void kerf_pool_freed(void *pool, uint64_t bytes);
KERF_MUST_CHECK CUresult kerf_graph_admit(CUgraphExec exec, struct kerf_charge *charge);
void kerf_graph_launched(struct kerf_charge *charge);
void kerf_graph_settle(void);
void kerf_graph_captured_alloc(CUstream stream, uint64_t bytes);
KERF_MUST_CHECK bool kerf_stream_captures(CUstream stream);
void kerf_overhead_refresh(void);           /* all cards, now and then, by the pacer */
void kerf_overhead_context(int device);     /* before the first allocation in a context */
void kerf_relaxed_begin(int *saved); /* our own driver calls must not break a stream capture */
void kerf_relaxed_end(const int *saved);

/* own.c: this process as NVML sees it */
KERF_MUST_CHECK bool kerf_own_memory(int card, uint64_t *bytes);
KERF_MUST_CHECK bool kerf_own_busy(int card, uint64_t since_us, unsigned *percent);
nvmlDevice_t kerf_nvml_device(int card);
KERF_MUST_CHECK bool kerf_pid_is_ours(unsigned pid);
int kerf_card_of_nvml(nvmlDevice_t device);

/* gate.c / pacer.c */
struct kerf_launch {
    const void *what; /* function or executable graph */
    uint64_t size;    /* blocks */
    CUstream stream;  /* NULL = legacy default stream; CU_STREAM_PER_THREAD = this thread's */
};
void kerf_gate_enter(const struct kerf_launch *launch);
void kerf_gate_leave(const struct kerf_launch *launch);
void kerf_gate_forget_stream(CUstream stream);
void kerf_gate_forget_context(CUcontext ctx);
void kerf_gate_init(void);
void kerf_gate_reset(void); /* in a forked child */
void kerf_pacer_run(void);   /* the pacer thread's life after it has the slot */
void kerf_pacer_leave(void); /* atexit: no driver calls from here on */

#endif
