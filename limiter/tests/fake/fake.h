/*
 * A GPU that does not exist: libcuda.so.1 and libnvidia-ml.so.1 for the tests.
 *
 * FAKE_GPU=FILE      the machine's cards, shared by every process that names the same file; without
 *                    it each process has cards of its own
 * FAKE_CARDS=N       cards (1)            FAKE_MEMORY_MIB=N   memory of each (16384)
 * FAKE_CONTEXT_MIB=N what a context takes (0)
 * FAKE_POOL_MIB=N    step in which pools grow (2)
 * FAKE_GRAPH_MIB=N   the same for graphs (2)
 * FAKE_STALL_MS=N    how long an allocation waits inside the driver before it is backed (0)
 * FAKE_LINGER_MS=N   how long a call that makes a pool or the graphs' memory grow stays inside the driver after that (0)
 * FAKE_FAST=1        no clock: every kernel is over at once (for measuring what Kerf adds)
 * FAKE_CALLS=1       launches and what is asked about events take their time, under one lock of the process, and who
 *                    waits for the card spins: as with a real driver
 * FAKE_NO_NVML_PIDS  NVML does not tell processes
 * CUDA_VISIBLE_DEVICES: indices or UUIDs, as the real driver reads them
 *
 * A kernel is a CUfunction whose address is its run time in nanoseconds. With FAKE_PEERS(group, ns) it is one
 * rank's half of a collective: it holds the card until the other rank's half has started too. Kernels of one process run
 * one after the other; processes take turns on a card by slices of 2 ms, as real cards do.
 */
#ifndef KERF_FAKE_H
#define KERF_FAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kerf/cuda_abi.h"

#define FAKE_CARDS 8
#define FAKE_PROCESSES 256
#define FAKE_QUEUES 24
#define FAKE_RING 16384
#define FAKE_SLICE_NS 2000000u
#define FAKE_WINDOW_NS 100000000u
#define FAKE_WINDOWS 10

struct fake_process {
    int pid; /* 0 = free */
    uint64_t space; /* its PID namespace */
    uint64_t used[FAKE_CARDS];
};

#define FAKE_GROUPS 8
#define FAKE_PEERS(group, ns) ((uint64_t)(ns) | (uint64_t)(group) << 40) /* group: 1 to FAKE_GROUPS - 1 */

/* Two ranks whose collectives wait for each other. */
struct fake_group {
    int ranks;
    uint64_t reached[2]; /* collectives that each rank has started */
};

struct fake_item {
    uint64_t left_ns;
    uint64_t number; /* of its rank's collectives; 0 = it waits for nothing */
    uint64_t done_at; /* nanoseconds, CLOCK_MONOTONIC */
};

/* What one process has sent to one card. Items before `done` are over. */
struct fake_queue {
    int pid, card;
    uint64_t space; /* as above */
    uint64_t done, sent;
    int group, rank;      /* 0 = no collective yet */
    uint64_t collectives; /* sent */
    uint64_t busy_ns;
    uint64_t window[FAKE_WINDOWS]; /* busy per tenth of a second, newest at (now / 100 ms) % 10 */
    uint64_t window_at;
    struct fake_item ring[FAKE_RING];
};

struct fake_card {
    uint64_t total, used;
    uint64_t now_ns; /* simulated up to here */
    int running;     /* queue that has the slice, -1 = none */
    uint64_t slice_left;
};

struct fake_world {
    uint32_t ready;
    uint32_t cards;
    pthread_mutex_t lock; /* robust, process-shared */
    struct fake_card card[FAKE_CARDS];
    struct fake_process processes[FAKE_PROCESSES];
    struct fake_queue queues[FAKE_QUEUES];
    struct fake_group groups[FAKE_GROUPS];
    uint32_t peers; /* 1 once a kernel waits for a peer: all cards then advance together */
};

extern struct fake_world *fake_world;

void fake_open(void);
bool fake_fast(void);
uint64_t fake_setting(const char *name, uint64_t otherwise);
uint64_t fake_now(void);
void fake_lock(void);
void fake_unlock(void);
CUuuid fake_uuid(int card);
int fake_physical(int device); /* card behind a visible ordinal, -1 = none */
int fake_visible(void);

bool fake_is_here(int pid, uint64_t space); /* in use, and of this process's PID namespace */
void fake_begin_anew(void);
bool fake_take_memory(int card, uint64_t bytes);
void fake_give_memory(int card, uint64_t bytes);
uint64_t fake_own_memory(int card);
void fake_linger(void);

uint64_t fake_submit(int card, uint64_t duration_ns); /* its number */
bool fake_over(int card, uint64_t number, uint64_t *done_at);
void fake_wait_all(int card);
void fake_pause(void);
void fake_advance(int card, uint64_t now); /* pre: locked */

/* The next `calls` allocations fail with `code`. For tests that link with the fake. */
__attribute__((visibility("default"))) void fake_fail_next(int calls, int code);
__attribute__((visibility("default"))) uint64_t fake_live_bytes(int card);
__attribute__((visibility("default"))) uint64_t fake_busy_ns(int card);
__attribute__((visibility("default"))) uint64_t fake_launches(void);
int fake_failure(void);

enum fake_call { FAKE_LAUNCH = 0, FAKE_RECORD = 1, FAKE_QUERY = 2, FAKE_ELAPSED = 3, FAKE_CALL_KINDS = 4 };

/* How often this process called the driver, and how often (for how long) one of its threads waited for the driver's lock. */
struct fake_calls {
    uint64_t count[FAKE_CALL_KINDS];
    uint64_t waits, waited_ns;
};
__attribute__((visibility("default"))) struct fake_calls fake_calls_made(void);

void fake_call(enum fake_call call);
bool fake_calls_cost(void);

#endif
