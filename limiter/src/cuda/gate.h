/* What gate.c (the launch path), marker.c (GPU time) and pacer.c (who may launch when) share. */
#ifndef KERF_GATE_H
#define KERF_GATE_H

#include "cuda/cuda.h"

#define KERF_STREAMS 256    /* streams one process launches on at a time; more share the last record */
#define KERF_SPACES 16      /* contexts */
#define KERF_RING 32        /* markers under way per stream */
#define KERF_LONE_NS 64000000u   /* work that a lone container may have ahead of the GPU: more would only hide it from a newcomer */
#define KERF_GUESS_NS 20000u /* one launch of something never measured */
#define KERF_READ_NS 4000u   /* how long a launch that is sampled waits until the card has read the marker in front of it */

/* A timing event behind some launches, or before the first of them. */
struct kerf_marker {
    CUevent event;
    uint64_t estimate_ns; /* of the launches since the marker before */
    uint64_t launches;    /* how many */
    uint64_t host_ns;     /* of its one launch, which started from rest, as in kerf_rested; 0: not known */
    uint64_t usual_ns;
    uint64_t key;         /* what they launched, if all the same; else MIXED */
    bool start;
    bool clean;  /* nothing but its launches lies between it and the marker before: fit to learn from */
    bool queued; /* all of it was submitted before the GPU reached it: the GPU set its pace, not the host */
};

/* A context: its clock, and events to reuse. */
struct kerf_space {
    CUcontext ctx;
    CUevent base;
    double base_ns;    /* of the base on this context's time line */
    double counted_to; /* GPU time up to here is counted */
    double room;       /* of the time before, what no work has claimed yet */
    CUevent spare[64];
    int spares;
};

/* A stream with what was launched on it. Counters in nanoseconds of estimated GPU time. */
struct kerf_lane {
    /* Written by launching threads. */
    uint64_t submitted;
    uint64_t key;
    uint64_t launches;
    /* Read by launching threads, written under the gate's lock. */
    uint64_t depth; /* launches go straight through while less than this is in flight; 0: the slow path */
    uint64_t completed;
    uint64_t marked; /* `submitted` up to the last marker */
    uint64_t marked_launches;
    uint64_t due;    /* `submitted` at which the next marker is due */
    struct kerf_sampler sampler;
    CUstream stream;
    uint64_t thread; /* of a per-thread default stream, else 0 */
    struct kerf_gate *gate;
    struct kerf_space *space;
    struct kerf_marker ring[KERF_RING];
    unsigned head, tail;
    double cursor; /* end of the last measured work */
    bool cursor_known;
    double owed;   /* charged with the next marker */
    bool late_marker; /* the last marker is the pacer's */
    bool closed;        /* the stream is gone; the record goes when its markers are done */
    uint64_t seen;      /* `submitted` at the pacer's last look */
    uint64_t folded;    /* launches already in the ledger */
} __attribute__((aligned(64)));

/* One card with a compute limit. */
struct kerf_gate {
    pthread_mutex_t lock;
    int card;
    uint64_t depth;  /* as decided: how far launches may run ahead of the GPU */
    uint64_t quota;  /* launches that may pass although it is 0 */
    struct kerf_rest rest; /* until the next look */
    bool lone;       /* no other container was here lately */
    bool held;       /* 0 because of another container, or of the cap */
    enum kerf_why why;
    uint64_t gone_launches; /* of streams that are gone */
    struct kerf_rank rank; /* among the processes of a container that spans cards */
    int waiting;     /* threads held back */
    int entering;    /* threads that ask whether they may launch: they want the card, but nothing kept them from it yet */
    uint32_t bell;   /* futex of those threads */
    struct kerf_seat seat;
    uint64_t settled_at, active_at, hungry_until;
    uint64_t launch_ns;    /* what one launch costs, typically */
    uint64_t usual_ns;     /* the least that the host takes for one that starts from rest */
    uint64_t busy_ns;      /* GPU time charged, not yet scaled */
    uint64_t untimed_ns;   /* of that, by figures that are upper bounds */
    uint32_t scale;        /* permille: the slow correction by NVML */
    uint64_t scale_at, scale_busy; /* when it was last looked at, and the container's charged time then */
    int syncs;             /* threads inside synchronise calls */
    uint64_t synced_at, step_ns;
    struct kerf_lane *lanes[KERF_STREAMS];
    int lane_count;
    struct kerf_space spaces[KERF_SPACES];
};

enum kerf_pacer_state {
    KERF_PACER_AWAKE = 0,
    KERF_PACER_RESTS = 1,  /* it looks again soon; a thread that is held back needs it now */
    KERF_PACER_SLEEPS = 2, /* there was nothing to look after */
};

struct kerf_pace {
    struct kerf_gate gates[KERF_CARDS_MAX];
    struct kerf_gang gang;             /* all gates with an arbiter, if there are several */
    int gang_card[KERF_CARDS_MAX];
    uint32_t generation; /* moves when cached lanes may be stale */
    uint32_t kick;       /* futex: the pacer rests and sleeps on it */
    enum kerf_pacer_state state;
    uint32_t leaving; /* futex; 1: the process is exiting */
    uint32_t left;    /* threads that have seen it */
    uint32_t threads; /* of ours that call the driver */
};

extern struct kerf_pace kerf_pace;

/* The first gate from card `card` on that limits something; NULL: none. */
static inline struct kerf_gate *kerf_gate_from(int card)
{
    while (card < (int)KERF_CARDS_MAX && kerf_pace.gates[card].card < 0)
        card++;
    return card < (int)KERF_CARDS_MAX ? &kerf_pace.gates[card] : NULL;
}

#define KERF_EACH_GATE(gate) \
    for (struct kerf_gate *gate = kerf_gate_from(0); gate; gate = kerf_gate_from((int)(gate - kerf_pace.gates) + 1))

#define KERF_KEY_MIXED 1u

uint64_t kerf_cost_of(uint64_t key);
void kerf_cost_learn(uint64_t key, uint64_t ns, bool trusted);
void kerf_cost_forget_all(void);

/* marker.c; all under the gate's lock */
struct kerf_space *kerf_space_of(struct kerf_gate *gate, CUcontext ctx);
void kerf_marker_place(struct kerf_lane *lane, bool start, bool by_pacer);
void kerf_marker_place_tail(struct kerf_lane *lane);
uint64_t kerf_marker_read(struct kerf_lane *lane); /* from when the card was seen to have read the last marker; 0: not seen */
void kerf_marker_behind(struct kerf_lane *lane, unsigned front, uint64_t host_ns); /* behind one launch, with only `front` in front of it */
void kerf_marker_poll(struct kerf_gate *gate);
bool kerf_lane_idle(const struct kerf_lane *lane);
uint64_t kerf_gate_in_flight(const struct kerf_gate *gate);

/* pacer.c */
void kerf_pacer_run(void);   /* the pacer thread's life after it has the slot */
void kerf_pacer_leave(void); /* atexit: no driver calls from here on */
/* under the gate's lock */
void kerf_gate_settle(struct kerf_gate *gate, uint64_t now); /* decides how far launches may go now */
uint64_t kerf_gate_launches(const struct kerf_gate *gate);
bool kerf_gate_rests(const struct kerf_gate *gate);
uint64_t kerf_lane_depth(const struct kerf_gate *gate, const struct kerf_lane *lane); /* how far its launches may go straight through */
void kerf_pacer_kick(enum kerf_pacer_state from); /* wakes it from this state or a deeper one */

#endif
