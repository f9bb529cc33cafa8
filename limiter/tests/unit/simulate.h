/*
 * A card that slices its time between containers, and containers as inference knows them, in discrete
 * steps of 10 us. Every container decides with kerf_decide_gate, from figures as old as on a real card: what is over it
 * learns at its looks, which it makes as often as kerf_decide_rest says, and before it goes further ahead than it may.
 */
#ifndef KERF_SIMULATE_H
#define KERF_SIMULATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arbiter/decide.h"

#define US 1000ull
#define MS 1000000ull
#define STEP (10 * US)
#define SLICE (2 * MS)  /* how long a card runs one container before it looks at the next */
#define LOOK KERF_LOOK_NS
#define TENANTS 4
#define LATENCIES 4096

enum work { GEMM, TINY, DECODE, CHAT, GRAPH };

struct tenant {
    enum work work;
    uint32_t weight, priority;
    bool cap;
    uint64_t kernel_ns; /* of GEMM and TINY */
    /* the host */
    uint64_t next, think;  /* when it launches next */
    int launches, launches_left, steps_left;
    bool waiting, at_gate;
    uint64_t arrivals[256], arrived_head, arrived_tail, next_arrival;
    /* the card */
    uint64_t queue, resident; /* submitted and not done; done */
    uint64_t pending[4096];   /* kernels in order */
    unsigned head, tail;
    /* what the limiter knows */
    uint64_t depth, known /* in flight, for all it knows */, next_look, looks, active, synced, step;
    uint64_t refilled, vtime, moved, last_resident, launch_ns;
    int64_t balance;
    bool held, hungry;
    uint64_t hungry_until;
    /* results */
    uint64_t done;
    uint64_t latency[LATENCIES];
    int latencies;
    unsigned seed;
};

struct world {
    struct tenant tenant[TENANTS];
    int count, running;
    uint64_t now, slice_left, idle_card;
    bool kerf;
};

static inline double uniform(struct tenant *t)
{
    return (rand_r(&t->seed) % 100000 + 0.5) / 100000.0;
}

static inline double exponential(struct tenant *t)
{
    double u = uniform(t), sum = 0, x = (1 - u) / (1 + u); /* -ln(u) = 2 artanh((1-u)/(1+u)) */
    double power = x;
    for (int i = 1; i < 400; i += 2, power *= x * x)
        sum += power / i;
    return 2 * sum;
}

static inline void look(struct world *w, struct tenant *t);

static inline bool submit(struct world *w, struct tenant *t, uint64_t ns)
{
    if (w->kerf && t->known >= t->depth && t->depth)
        look(w, t);
    if ((w->kerf && t->known >= t->depth) || t->tail - t->head >= 1000) {
        t->at_gate = true;
        t->next_look = t->next_look < w->now + LOOK ? t->next_look : w->now + LOOK; /* the pacer is woken */
        return false;
    }
    t->at_gate = false;
    t->pending[t->tail++ % 4096] = ns;
    t->queue += ns;
    t->known += ns;
    t->active = w->now;
    t->launch_ns = t->launch_ns ? (t->launch_ns * 7 + ns) / 8 : ns;
    return true;
}

static inline void begin_step(struct world *w, struct tenant *t)
{
    static const int launches[] = { [DECODE] = 100, [CHAT] = 180, [GRAPH] = 1 };
    t->launches = t->launches_left = launches[t->work];
    t->next = w->now + 20 * US;
}

static inline void host_step(struct world *w, struct tenant *t)
{
    bool saturates = t->work == GEMM || t->work == TINY;
    if (saturates) {
        for (int i = 0; i < (t->work == TINY ? 4 : 1) && submit(w, t, t->kernel_ns); i++)
            ;
        return;
    }
    if (t->work == CHAT && w->now >= t->next_arrival) {
        t->arrivals[t->arrived_tail++ % 256] = t->next_arrival;
        t->next_arrival += (uint64_t)(exponential(t) * 125e6);
    }
    if (t->waiting) {
        if (t->queue)
            return;
        t->waiting = false;
        t->synced = w->now;
        if (--t->steps_left > 0 || t->work != CHAT) {
            t->done++;
            begin_step(w, t);
            return;
        }
        t->done++;
        if (t->latencies < LATENCIES)
            t->latency[t->latencies++] = w->now - t->arrivals[t->arrived_head % 256];
        t->arrived_head++;
        return;
    }
    if (!t->launches_left) { /* between requests */
        if (t->work == CHAT && t->arrived_head == t->arrived_tail)
            return;
        t->moved = t->synced = w->now;
        t->steps_left = 25;
        begin_step(w, t);
        return;
    }
    if (w->now < t->next)
        return;
    uint64_t ns = t->work == GRAPH ? 1500 * US : t->work == CHAT && t->steps_left == 25 ? 30 * US : 4500;
    if (!submit(w, t, ns))
        return;
    t->next = w->now + 20 * US;
    if (--t->launches_left == 0) {
        if (t->steps_left != 25 || t->work != CHAT)
            t->step = kerf_decide_step(t->step, w->now - t->synced);
        t->waiting = true;
    }
}

static inline void card_step(struct world *w)
{
    uint64_t left = STEP;
    while (left) {
        struct tenant *t = w->running >= 0 ? &w->tenant[w->running] : NULL;
        if (!t || !t->queue || !w->slice_left) {
            int next = -1;
            for (int i = 1; i <= w->count && next < 0; i++)
                if (w->tenant[(w->running + i + w->count) % w->count].queue)
                    next = (w->running + i + w->count) % w->count;
            if (next < 0) {
                w->idle_card += left;
                return;
            }
            w->running = next;
            w->slice_left = SLICE;
            continue;
        }
        uint64_t *kernel = &t->pending[t->head % 4096];
        uint64_t part = *kernel < left ? *kernel : left;
        part = part < w->slice_left ? part : w->slice_left;
        *kernel -= part;
        t->queue -= part;
        t->resident += part;
        w->slice_left -= part;
        left -= part;
        if (!*kernel) {
            t->head++;
            if (t->work == GEMM || t->work == TINY)
                t->done++;
        }
    }
}

static inline struct kerf_peer as_peer(const struct tenant *t)
{
    return (struct kerf_peer){
        .weight = t->weight, .priority = t->priority, .hungry = t->hungry, .blocked = t->waiting, .vtime = t->vtime, .moved_ns = t->moved,
        .in_flight_ns = t->queue, .active_ns = t->active, .synced_ns = t->synced, .step_ns = t->step, .balance_ns = t->balance,
    };
}

static inline void look(struct world *w, struct tenant *t)
{
    struct kerf_peer peers[TENANTS];
    int count = 0;
    uint32_t total = 0;
    uint64_t clock = 0;
    for (int i = 0; i < w->count; i++) {
        total += w->tenant[i].weight;
        clock = w->tenant[i].vtime > clock ? w->tenant[i].vtime : clock;
        if (&w->tenant[i] != t)
            peers[count++] = as_peer(&w->tenant[i]);
    }
    uint64_t used = t->resident - t->last_resident;
    t->last_resident = t->resident;
    if (used)
        t->moved = w->now;
    if (t->queue)
        t->active = w->now;
    t->vtime = kerf_decide_claim(t->vtime + used * KERF_UNIT / t->weight, clock, t->weight);
    uint32_t share = t->cap ? t->weight * 10 : t->weight * 1000 / total;
    int64_t most = (int64_t)(MS * share) / (t->cap ? 1 : 4), least = t->cap ? INT64_MIN / 2 : -(int64_t)(100 * MS);
    t->balance = kerf_decide_refill(t->balance - (int64_t)used, w->now - t->refilled, share, most, least);
    t->refilled = w->now;
    struct kerf_self self = {
        .now = w->now, .weight = t->weight, .priority = t->priority, .capped = t->cap, .held = t->held, .hungry = t->hungry, .vtime = t->vtime,
        .in_flight_ns = t->queue, .launch_ns = t->launch_ns, .balance_ns = t->balance, .processes = 1,
    };
    struct kerf_verdict verdict = kerf_decide_gate(&self, peers, count);
    struct kerf_rest rest = kerf_decide_rest(&self, count, 2);
    t->known = t->queue;
    t->depth = verdict.depth_ns && rest.part_ns < KERF_NO_BOUND && t->queue + rest.part_ns < verdict.depth_ns ? t->queue + rest.part_ns : verdict.depth_ns;
    t->next_look = w->now + rest.pause_ns;
    t->looks++;
    t->held = verdict.depth_ns == 0;
    struct kerf_wish wish = {
        .now = w->now, .in_flight_ns = t->queue, .waiting = t->at_gate, .capped = verdict.why == KERF_WHY_CAP, .hungry_until = t->hungry_until,
    };
    struct kerf_hunger hunger = kerf_decide_hunger(&wish);
    t->hungry = hunger.hungry;
    t->hungry_until = hunger.hungry_until;
}

static inline void simulate(struct world *w, uint64_t seconds)
{
    w->running = -1;
    for (int i = 0; i < w->count; i++)
        w->tenant[i].seed = 7 + 13 * (unsigned)i, w->tenant[i].next_look = (uint64_t)i * 30 * US;
    for (uint64_t end = w->now + seconds * 1000 * MS; w->now < end; w->now += STEP) {
        for (int i = 0; i < w->count; i++)
            host_step(w, &w->tenant[i]);
        card_step(w);
        for (int i = 0; i < w->count; i++)
            if (w->now >= w->tenant[i].next_look)
                look(w, &w->tenant[i]);
    }
}

static inline int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static inline double p99_ms(struct tenant *t)
{
    qsort(t->latency, (size_t)t->latencies, sizeof *t->latency, by_size);
    return t->latencies ? (double)t->latency[t->latencies * 99 / 100] / 1e6 : 0;
}

#endif
