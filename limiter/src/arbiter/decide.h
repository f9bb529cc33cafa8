/* The decisions of compute limiting: pure functions of numbers, no clock, no memory, no driver. */
#ifndef KERF_DECIDE_H
#define KERF_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

#define KERF_UNIT 1000u /* vtime moves by held_ns x KERF_UNIT / weight */

/* A member that asks for the turn. */
struct kerf_candidate {
    int member;
    uint32_t priority; /* 0 goes first under the priority policy; equal otherwise */
    uint64_t vtime;
};

/* Who gets the turn: high priority, then the least served for its weight, then the lowest index; -1 = nobody. */
int kerf_decide_next(const struct kerf_candidate *candidates, int count);

/* How long a turn lasts: the tenant's part of a round, at least the least. All in nanoseconds. */
uint64_t kerf_decide_quantum(uint64_t round_ns, uint32_t weight, uint32_t total_weight);

struct kerf_turn {
    uint64_t held_ns;
    uint64_t quantum_ns;
    uint64_t round_ns;
    uint64_t vtime; /* the holder's, up to now */
    uint32_t priority;
    uint32_t total_weight;
    bool out_of_budget;
    bool idle; /* nothing to run and nobody waiting in the holder */
};

/* Whether the holder must pass the turn to the best other candidate. */
bool kerf_decide_yield(const struct kerf_turn *turn, const struct kerf_candidate *other);

/* GPU time a cap leaves now: cap x elapsed, trimmed, minus what was spent. May be negative. */
int64_t kerf_decide_budget(uint32_t cap_percent, uint32_t trim_permille, uint64_t elapsed_ns, uint64_t spent_ns);

/* The elapsed time that corresponds to `spent` plus a full burst: older credit is forgotten. */
uint64_t kerf_decide_elapsed(uint32_t cap_percent, uint32_t trim_permille, uint64_t spent_ns);

/* A fresh estimate of one launch's time. All in nanoseconds; 0 = unknown. */
uint64_t kerf_decide_cost(uint64_t known, uint64_t sample);

/* The outer loop: how much more or less than its nominal share the inner loop must aim for. */
uint32_t kerf_decide_trim(uint32_t trim_permille, uint32_t target_permille, uint32_t measured_permille);

/* vtime of a tenant that comes back after a pause: it keeps a little credit, not all the time it slept. */
uint64_t kerf_decide_wake(uint64_t vtime, uint64_t vclock, uint64_t round_ns, uint32_t total_weight);

/* The weight of a tenant that asked for no share: what the others leave. */
uint32_t kerf_decide_weight(uint32_t own, uint32_t others);

#endif
