/*
 * The ledger: one 64 KiB file per container, mapped by every process in it.
 *
 * The node agent (or `kerf ledger create`) renders it; libkerf.so charges it; monitors read it.
 * kerf/wire/limiter.py mirrors this file byte for byte; tests/kerf/wire/test_limiter.py compares
 * every offset with what this header compiles to. All integers are little endian.
 *
 *   0       header     256 B
 *   256     cards      16 x 512 B    what was granted, what is charged
 *   8448    arbiters   16 x 1408 B   who feeds the card now (processes of this container only)
 *   30976   slots      108 x 320 B   one per live process, never moved
 *   65536
 *
 * A node-wide arbiter has the same layout in a file of its own (one per card, shared by all
 * ledgers of that card); a card record names it by `arbiter`.
 */
#ifndef KERF_LEDGER_H
#define KERF_LEDGER_H

#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#define KERF_LEDGER_MAGIC 0x4744454c4652454bULL  /* "KERFLEDG" */
#define KERF_ARBITER_MAGIC 0x4e5255544652454bULL /* "KERFTURN" */
#define KERF_LEDGER_ABI 1u
#define KERF_ARBITER_ABI 2u /* 1: containers took turns; both lived on one node only in files of their own */

#define KERF_LEDGER_BYTES 65536u
#define KERF_CARDS_MAX 16u
#define KERF_SLOTS 108u
#define KERF_KINDS 8u
#define KERF_EVENTS 16u

#define KERF_LOCAL_TENANTS 1u
#define KERF_LOCAL_MEMBERS 20u
#define KERF_NODE_TENANTS 32u
#define KERF_NODE_MEMBERS 128u
#define KERF_NODE_ARBITER_BYTES 12288u

#define KERF_CHARGED_BITS 44
#define KERF_CHARGED_MASK ((1ULL << KERF_CHARGED_BITS) - 1)
#define KERF_UNLIMITED UINT64_MAX /* memory_limit: no limit */

enum kerf_policy {
    KERF_POLICY_CAP = 0,      /* never above `cores`, even alone on the card */
    KERF_POLICY_WEIGHT = 1,   /* `cores` is a weight: idle time goes to the containers that want it */
    KERF_POLICY_PRIORITY = 2, /* as weight, but a high priority tenant goes first */
};

/* What a byte was charged for. Sums per process stand in kerf_slot.kinds. */
enum kerf_kind {
    KERF_KIND_DEVICE = 0,   /* cuMemAlloc, cuMemAllocPitch */
    KERF_KIND_MANAGED = 1,  /* cuMemAllocManaged */
    KERF_KIND_POOL = 2,     /* what stream-ordered pools hold reserved */
    KERF_KIND_VMM = 3,      /* cuMemCreate, until the last handle and mapping are gone */
    KERF_KIND_ARRAY = 4,    /* arrays and mipmapped arrays */
    KERF_KIND_GRAPH = 5,    /* what graph memory nodes hold reserved */
    KERF_KIND_OVERHEAD = 6, /* contexts, modules, driver buffers: NVML's figure minus all the above */
    KERF_KIND_SPARE = 7,
};

/* What could not be enforced, or was worked around. Counted in kerf_header.events; 0 is healthy. */
enum kerf_event {
    KERF_EVENT_UNKNOWN_ABI = 0,    /* the driver offered a version of a hooked call we have no wrapper for */
    KERF_EVENT_NO_SLOT = 1,        /* all process slots taken: this process may not allocate */
    KERF_EVENT_NO_ARBITER = 2,     /* arbiter missing or broken: neighbours not seen; or full: this process goes a launch at a time, or waits */
    KERF_EVENT_NO_MARKER = 3,      /* the driver refused a timing marker */
    KERF_EVENT_TURN_TAKEN = 4,     /* a container that made no progress was no longer waited for */
    KERF_EVENT_PROCESS_LOST = 5,   /* a process died holding bytes; they were given back */
    KERF_EVENT_OVERHEAD_OVER = 6,  /* driver overhead alone lifted use above the limit */
    KERF_EVENT_NO_OVERHEAD = 7,    /* NVML does not tell this process's memory: overhead is not counted */
    KERF_EVENT_UNKNOWN_CARD = 8,   /* a visible card has no record in the ledger: not usable */
    KERF_EVENT_TABLE_FULL = 9,     /* no memory for bookkeeping: the allocation was refused */
    KERF_EVENT_FREE_MISMATCH = 10, /* less was charged than is being given back: someone wrote to the ledger */
    KERF_EVENT_UNCAPPED_WORK = 11, /* GPU work on a path that cannot be gated */
    KERF_EVENT_UNTIMED_WORK = 12,  /* a second in which most GPU time was charged by figures that are upper bounds */
};

struct kerf_header {
    uint64_t magic;
    uint32_t abi;
    uint32_t bytes;
    uint64_t generation; /* changes when the agent renders the file again */
    uint32_t card_count;
    uint32_t slot_count;
    uint32_t policy;   /* enum kerf_policy */
    uint32_t priority; /* 0 high, 1 low (nvidia.com/priority) */
    uint32_t flags;
    uint32_t ready;        /* 1 once the first process has initialised the slot mutexes */
    uint64_t reserved[10];
    uint64_t events[KERF_EVENTS]; /* atomic counters, enum kerf_event */
};

struct kerf_card {
    /* Written by the agent before the container starts. */
    char uuid[64];         /* "GPU-…" or "MIG-…", NUL padded; digits alone: n-th card the process sees */
    uint64_t memory_limit; /* bytes, or KERF_UNLIMITED */
    uint32_t cores;        /* percent of the card's GPU time, 0 = no limit */
    uint32_t weight;       /* share under contention; 0 = what the others leave */
    uint32_t flags;
    uint32_t reserved0;
    uint64_t reserved1[5];
    /* Container-wide, written by libkerf. */
    /* The one word every reserve goes through: bytes now charged in the low 44 bits; above them the
     * slot+1 (7 bits) and sequence (13 bits) of the last change, so that a change cut short by
     * SIGKILL can be distinguished from one that took effect (see ledger.c). */
    uint64_t charged;
    uint64_t peak;    /* highest `charged` seen */
    uint64_t denied;  /* allocations refused for the limit */
    uint64_t reserved2[5];
    uint64_t busy_ns;     /* GPU time used, all processes, measured with timing events */
    uint64_t throttled_ns; /* time launches were held back, summed over threads */
    uint64_t launches;    /* gated launches (kernels and graphs), folded in now and then */
    uint64_t reserved3[5];
    /* Written by the agent on the host while the container runs. */
    uint32_t measured_permille; /* this container's share of the card's GPU time, by NVML */
    uint32_t reserved4;
    uint64_t measured_at_ns;   /* CLOCK_MONOTONIC of that reading; older than 3 s is ignored; 0 = never */
    uint64_t window_start_ns;  /* reserved for a host-driven arbiter */
    uint64_t window_length_ns;
    uint32_t window_permille;
    uint32_t reserved5;
    uint64_t foreign_bytes; /* bytes NVML sees in this container that the ledger does not */
    uint64_t reserved6[2];
    char arbiter[192]; /* path, inside the container, of the card's node-wide arbiter; "" = none */
};

/* kerf_member.want, bits */
enum kerf_want {
    KERF_WANT_CARD = 1,   /* has work in flight, or a thread at the gate */
    KERF_WANT_MORE = 2,   /* hungry: would submit more, or has a long queue */
    KERF_WANT_GANG = 4,   /* its container spans cards and orders itself by the gang slot */
    KERF_WANT_SLOT = 8,   /* waits for that slot */
};

/* One process that feeds the card. */
struct kerf_member {
    uint64_t token;        /* 0 = free; otherwise unique to a process's stay */
    uint64_t heartbeat_ns; /* CLOCK_MONOTONIC; silence means dead, stopped or throttled */
    uint32_t tenant;       /* index into tenants */
    uint32_t want;         /* enum kerf_want */
    int32_t pid;           /* as that process sees itself; for people */
    uint32_t waits;        /* threads inside a synchronise call */
    uint64_t launches;     /* since its gate last opened for its gang */
    uint64_t in_flight_ns; /* learned GPU time of work submitted and not done */
    uint64_t synced_ns;    /* CLOCK_MONOTONIC of the last return from a synchronise call */
    uint64_t step_ns;      /* how long its host works between such calls */
};

/* One container on this card. */
struct kerf_tenant {
    uint64_t id; /* 0 = free; hash of the ledger's inode and generation */
    uint32_t weight;
    uint32_t priority;
    uint64_t vtime;     /* GPU time charged / weight: the lowest is furthest behind; ns x 1000 / weight */
    int64_t balance_ns; /* share x time - GPU time charged, as of epoch_ns; bounded */
    uint64_t epoch_ns;  /* CLOCK_MONOTONIC */
    uint64_t moved_ns;  /* when vtime last moved, or the container woke */
    uint64_t seen_ns;   /* last heartbeat of any member; old and without members = free to take */
    uint64_t active_ns; /* when it last had work in flight */
};

struct kerf_arbiter {
    uint64_t magic;
    uint32_t abi;
    uint32_t tenant_count;
    uint32_t member_count;
    uint32_t period_us; /* one round of turns of containers that span cards */
    uint64_t turn;      /* not used any more */
    uint64_t since_ns;  /* not used any more */
    uint64_t vclock;    /* the highest vtime of a container with work */
    uint32_t bell;      /* not used any more */
    uint32_t reserved0;
    uint64_t gang;      /* the slot of containers that span cards: tenant+1 << 48 | deadline in us; past its deadline it is free */
    /* struct kerf_tenant tenants[tenant_count]; struct kerf_member members[member_count]; */
};

struct kerf_local_arbiter {
    struct kerf_arbiter head;
    struct kerf_tenant tenants[KERF_LOCAL_TENANTS];
    struct kerf_member members[KERF_LOCAL_MEMBERS];
};

struct kerf_slot {
    int32_t pid;       /* as the process sees itself; 0 = never used or given back */
    int32_t host_pid;  /* written by the agent, 0 = not yet known */
    uint64_t start;    /* /proc/self/stat start time, clock ticks since boot */
    uint64_t busy_ns;  /* GPU time of this process, all cards */
    uint32_t stays;    /* how many processes have held this slot */
    uint16_t seq;      /* of this slot's last change to a `charged` word */
    uint16_t ack;      /* the sequence others saw take effect before they overwrote it */
    uint64_t kinds[KERF_KINDS]; /* bytes by kind, all cards */
    char comm[16];              /* process name, NUL padded */
    uint64_t intent;            /* change under way: 1 << 63 | card << 32 | sequence; 0 = none */
    uint64_t target;            /* bytes[card] once it has taken effect */
    union {
        pthread_mutex_t mutex; /* robust, process-shared; held for life by the process's pacer thread */
        uint32_t owner;        /* first word: holder's TID; 0 or bit 30 set = nobody lives here */
        char space[64];
    } life;
    uint64_t bytes[KERF_CARDS_MAX]; /* charged by this process, per card record */
};

struct kerf_ledger {
    struct kerf_header header;
    struct kerf_card cards[KERF_CARDS_MAX];
    struct kerf_local_arbiter arbiters[KERF_CARDS_MAX];
    struct kerf_slot slots[KERF_SLOTS];
};

static_assert(sizeof(struct kerf_header) == 256, "header");
static_assert(offsetof(struct kerf_header, events) == 128, "header.events");
static_assert(sizeof(struct kerf_card) == 512, "card");
static_assert(offsetof(struct kerf_card, charged) % 64 == 0, "card.charged owns a cache line");
static_assert(offsetof(struct kerf_card, busy_ns) % 64 == 0, "card.busy_ns owns a cache line");
static_assert(offsetof(struct kerf_card, measured_permille) % 64 == 0, "agent words own a cache line");
static_assert(sizeof(struct kerf_member) == 64 && sizeof(struct kerf_tenant) == 64, "arbiter rows");
static_assert(sizeof(struct kerf_arbiter) == 64, "arbiter head");
static_assert(sizeof(struct kerf_local_arbiter) == 1408, "local arbiter");
static_assert(offsetof(struct kerf_slot, life) == 128 && offsetof(struct kerf_slot, bytes) == 192, "slot");
static_assert(sizeof(struct kerf_slot) == 320, "slot");
static_assert(sizeof(struct kerf_ledger) == KERF_LEDGER_BYTES, "ledger");
static_assert(sizeof(struct kerf_arbiter) + KERF_NODE_TENANTS * sizeof(struct kerf_tenant) +
                      KERF_NODE_MEMBERS * sizeof(struct kerf_member) <= KERF_NODE_ARBITER_BYTES,
              "node arbiter");

#endif
