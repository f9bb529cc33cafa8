/* The lowest layer: what every file may use. State of the process, messages, counters, time, futexes, the table. */
#ifndef KERF_BASE_H
#define KERF_BASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kerf/ledger.h"

#define KERF_EXPORT __attribute__((visibility("default")))
#define KERF_MUST_CHECK __attribute__((warn_unused_result))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define KERF_NO_CARD (-1)      /* not limited by Kerf */
#define KERF_UNKNOWN_CARD (-2) /* visible to the process, absent from its ledger: nothing may be allocated */

enum kerf_stage {
    KERF_STAGE_NEW = 0,    /* nothing looked at yet */
    KERF_STAGE_CLOSED = 1, /* there is no ledger, or it cannot be used: memory is refused */
    KERF_STAGE_OPEN = 2,   /* ledger mapped, read only so far */
    KERF_STAGE_LIVE = 3,   /* this process has a slot */
};

/* What all layers know about this process. Each layer keeps its own state besides. */
struct kerf_state {
    /* Read on every launch, so first and together. */
    int launch_free; /* 1: launches are neither counted nor held back */
    int open;        /* 1: CUDA is bound and the ledger looked for */
    int stage;       /* enum kerf_stage */
    int gated_cards; /* cards of the ledger with a compute limit */
    int slot;        /* index of our slot, -1 = none */
    int pid;
    struct kerf_ledger *ledger;
    uint64_t tenant_id;
};

extern struct kerf_state kerf;

/* state.c */
void kerf_count(enum kerf_event event);
void kerf_say(const char *text); /* one line on stderr, prefixed */
uint64_t kerf_now_ns(void);
void kerf_futex_wake(uint32_t *word, int count, bool shared);
void kerf_futex_wait(uint32_t *word, uint32_t value, uint64_t timeout_ns, bool shared);

/* `value`, or the nearest that is not outside lowest..highest. */
static inline uint64_t kerf_within(uint64_t value, uint64_t lowest, uint64_t highest)
{
    return value < lowest ? lowest : value > highest ? highest : value;
}

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

#endif
