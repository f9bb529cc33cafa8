/* The decisions of compute limiting: pure functions of numbers, no clock, no memory, no driver. Times in nanoseconds. */
#ifndef KERF_DECIDE_H
#define KERF_DECIDE_H

#include <stdbool.h>
#include <stdint.h>

#define KERF_UNIT 1000u            /* vtime moves by GPU time x KERF_UNIT / weight */
#define KERF_NO_BOUND UINT64_MAX   /* a depth: launch as far ahead as you like */
#define KERF_DEPTH_NS 4000000u     /* work that a container may have in flight while others share its card */
#define KERF_HUNGRY_NS 1000000u    /* work in flight from which a container counts as hungry */
#define KERF_MARK_NS 500000u       /* between markers, on average; a launch of so much is measured alone */
#define KERF_RARE_MARK_NS 2000000u /* the same while nothing depends on them */
#define KERF_LOOK_NS 100000u       /* between the looks of a process that has work in flight */
#define KERF_REST_NS 5000000u      /* the same, at most, while nothing depends on them */
#define KERF_STALL_NS 50000000u    /* without progress for so long, a container keeps nobody waiting */

/* Another container on the card, as its processes publish it. */
struct kerf_peer {
    uint32_t weight, priority; /* priority: 0 goes first */
    bool gang;                 /* it spans several cards: the gang slot orders it, not vtime */
    bool hungry;               /* it has more work than it may submit, or a long queue */
    bool blocked;              /* one of its threads waits for the card in a synchronise call */
    uint64_t vtime;            /* GPU time charged / weight */
    uint64_t moved_ns;         /* when vtime last moved, or it woke */
    uint64_t in_flight_ns;
    uint64_t active_ns;        /* when it last had work in flight */
    uint64_t synced_ns;        /* when a synchronise call last returned; 0 = never */
    uint64_t step_ns;          /* how long its host works between such calls; 0 = unknown */
    int64_t balance_ns;        /* share x time - GPU time charged; negative: over its share */
};

/* The container that decides. */
struct kerf_self {
    uint64_t now;
    uint32_t weight, priority;
    bool gang;
    bool capped;         /* `balance_ns` is a hard limit */
    bool hungry;         /* as in kerf_peer */
    bool held;           /* the last verdict kept it waiting */
    bool outside;        /* the card's arbiter has no account for it: `balance_ns` and `vtime` mean nothing */
    bool unseen;         /* the others cannot see what it has in flight, its own container's processes included */
    uint64_t vtime;
    uint64_t in_flight_ns;
    uint64_t launch_ns;  /* what one launch of it costs, typically */
    int64_t balance_ns;  /* as in kerf_peer */
    uint32_t processes;  /* of the container that feed the card, this one included */
};

enum kerf_why {
    KERF_WHY_OPEN = 0,
    KERF_WHY_CAP = 1,      /* the cap's budget is used up */
    KERF_WHY_AHEAD = 2,    /* ahead of a container that wants the card */
    KERF_WHY_STEP = 3,     /* over its share, and a container in the middle of a step would be delayed */
    KERF_WHY_PRIORITY = 4, /* the same for a container of higher priority */
    KERF_WHY_GANG = 5,     /* another container has the cards' gang slot */
    KERF_WHY_SEAT = 6,     /* it waits for an account, or goes one launch at a time, because the arbiter is full */
};

struct kerf_verdict {
    uint64_t depth_ns; /* launch while less than this is in flight; 0: wait */
    int peer;          /* the one it waits for, -1 = none */
    enum kerf_why why;
};

/* How far ahead of the card the container may launch now. Every wait ends: by time (cap), or because the peer moves or stalls. */
struct kerf_verdict kerf_decide_gate(const struct kerf_self *self, const struct kerf_peer *peers, int count);

/* How a process goes on until it looks again. */
struct kerf_rest {
    uint64_t pause_ns; /* so long */
    uint64_t part_ns;  /* what each of its streams may add to what it has in flight meanwhile */
};

/*
 * Each look takes the driver's lock, for which the program's launches and waits may have to wait. Alone on its card, a
 * container that could not use up its credit meanwhile is therefore left alone: whatever its processes and `streams` do
 * until their next looks, a part of the credit is left.
 */
struct kerf_rest kerf_decide_rest(const struct kerf_self *self, int others, int streams);

/* What a process shows of its wish for the card. */
struct kerf_wish {
    uint64_t now;
    uint64_t in_flight_ns;
    int entering;          /* threads that ask whether they may launch: they want the card, but nothing kept them from it yet */
    int waiting;           /* threads held back */
    bool capped;           /* by the container's own cap, which is nobody else's doing */
    uint64_t hungry_until; /* as found at the look before */
};

struct kerf_hunger {
    bool wants;  /* it has work in flight, or a thread at the gate */
    bool hungry; /* as in kerf_peer */
    uint64_t hungry_until;
};

/* Whether a process is kept waiting: a launch was held back, or its queue is long, now or a moment ago. */
struct kerf_hunger kerf_decide_hunger(const struct kerf_wish *wish);

/* A share's account after `elapsed`: grows by share x elapsed up to `most`; debts below `least` are forgotten. */
int64_t kerf_decide_refill(int64_t balance, uint64_t elapsed, uint32_t share_permille, int64_t most, int64_t least);

/* vtime of a container that was served less than it could have been: it keeps a bounded claim. */
uint64_t kerf_decide_claim(uint64_t vtime, uint64_t vclock, uint32_t weight);

/*
 * A fresh estimate of one launch's solo duration from a sample; 0 = unknown. It follows the lower end of
 * the samples, because a neighbour's time slices only ever make them longer. A sample that was not
 * trusted (the host, not the card, may have set its pace) is an upper bound.
 */
uint64_t kerf_decide_cost(uint64_t known, uint64_t sample, bool trusted);

/* A launch that the host made on an idle card, measured between a timing event in front of it and one behind it. */
struct kerf_rested {
    uint64_t measured_ns; /* between the events; never less than the launch ran */
    uint64_t host_ns;     /* from when the card was seen to have read the event in front to the return of the launch call; 0: not seen */
    uint64_t usual_ns;    /* the least that this takes in this process; 0: not known */
};

/* What such a launch ran, and whether the figure may raise what is known. */
struct kerf_sample {
    uint64_t ns;
    bool trusted;
};

/*
 * The card begins a launch when the call submits it, at its end; the event in front it had read before. So the
 * events hold the host's time too, which is taken off: no more of it than a launch call usually takes, because a thread may
 * be stopped after it has submitted it, and never so much that less than a quarter is left.
 */
struct kerf_sample kerf_decide_from_rest(const struct kerf_rested *launch);

/* The least that the host takes for a launch, as usual_ns above: a lower figure at once, a higher one slowly. */
uint64_t kerf_decide_usual(uint64_t known, uint64_t sample);

/* GPU time to charge, and what is left of the time line for streams that ran at once. Neither is ever negative. */
struct kerf_counted {
    double counted, room;
};

/*
 * `used` of the `measured` time, but no more than `room`. Events' times are floats from a base that moves: a stretch may
 * seem to end before it began, and then counts nothing.
 */
struct kerf_counted kerf_decide_counted(double used, double measured, double room);

/* Which launches of a stream are measured alone. */
struct kerf_sampler {
    uint64_t dice;
    bool next; /* the next launch is */
};

/*
 * Estimated work until the next marker, in nanoseconds: `mean` on average, at least `least`, and at least 1. `whole`:
 * the marker just placed ends a whole stretch, so the next launch is sampled, unless the one before it was. The stretches
 * differ by dice: a program that repeats a step would else have the same launch of it sampled for ever, and what the
 * others cost would stay as it was first seen.
 */
uint64_t kerf_decide_stretch(struct kerf_sampler *sampler, bool whole, uint64_t mean, uint64_t least);

/* The slow correction: what charged work must be multiplied by (permille) so that it agrees with NVML's figure. */
uint32_t kerf_decide_scale(uint32_t scale, uint32_t charged_permille, uint32_t measured_permille);

/* The step of a host between two synchronise calls: follows the lower end, so that a long pause does not stretch it. */
uint64_t kerf_decide_step(uint64_t known, uint64_t sample);

/* The weight of a container that asked for no share: what the others leave. */
uint32_t kerf_decide_weight(uint32_t own, uint32_t others);

/* A container that spans cards and asks for the slot of one of them. */
struct kerf_candidate {
    int tenant;
    uint32_t priority;
    uint64_t vtime;
};

/* Who gets the slot: high priority, then the least served for its weight, then the lowest index; -1 = none asks. */
int kerf_decide_next(const struct kerf_candidate *candidates, int count);

/* How long a gang may keep the slot while another one waits: its part of a round. */
uint64_t kerf_decide_lease(uint64_t round_ns, uint32_t weight, uint32_t total_weight);

#endif
