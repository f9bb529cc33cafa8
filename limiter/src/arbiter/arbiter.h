/*
 * The containers on a card and what each has used, in memory that their processes share. No driver
 * calls here, and no locks: every word has one writer, or changes by one atomic operation.
 */
#ifndef KERF_ARBITER_LAYER_H
#define KERF_ARBITER_LAYER_H

#include "arbiter/decide.h"
#include "base/base.h"

struct kerf_seat {
    struct kerf_arbiter *head;
    struct kerf_tenant *tenants;
    struct kerf_member *members;
    int tenant, member; /* -1: no row was free. Without a tenant it waits for one; without a member the others do not see it */
    uint64_t token;
    bool node_wide;
    bool counted; /* that it has no seat */
};

/* What a process publishes about itself. */
struct kerf_pulse {
    uint32_t want; /* enum kerf_want */
    uint64_t in_flight_ns;
    uint64_t launches;
};

/* seat.c: sits down at the card's arbiter: the node-wide one its record names, else the container's own */
void kerf_seat_open(struct kerf_seat *seat, unsigned card);
void kerf_seat_join(struct kerf_seat *seat, unsigned card, uint64_t now); /* again, if the seat was lost */
void kerf_seat_leave(struct kerf_seat *seat);
void kerf_seat_publish(struct kerf_seat *seat, const struct kerf_pulse *pulse, uint64_t now);
void kerf_seat_charge(struct kerf_seat *seat, uint64_t busy_ns, uint64_t now);
void kerf_seat_sync_begin(struct kerf_seat *seat);
void kerf_seat_sync_end(struct kerf_seat *seat, uint64_t step_ns, uint64_t now);

/* Brings the container's account up to date, fills what `self` needs of it, and lists the others that were seen lately. */
int kerf_seat_look(struct kerf_seat *seat, uint32_t cap_percent, struct kerf_self *self, struct kerf_peer peers[KERF_NODE_TENANTS]);

/*
 * gang.c: containers that span cards take coordinated turns. The slot of each card names one of them
 * until a deadline; a container takes the slots of its cards in one order, and is admitted with all.
 */
struct kerf_gang {
    struct kerf_seat *seats[KERF_CARDS_MAX]; /* in the order of the cards' UUIDs */
    int count;
};
enum kerf_admission {
    KERF_GANG_ALONE = 0,   /* no other such container shares a card */
    KERF_GANG_IN = 1,      /* this container's turn */
    KERF_GANG_OUT = 2,     /* not its turn, or not on every card */
};
/* One process in its gang. */
struct kerf_rank {
    bool spans;        /* its container has several cards with arbiters; else it is in no gang */
    bool out;          /* it waits for its container's turn */
    bool counted;      /* `base` is from a moment when the whole gang was drained */
    uint64_t base;     /* what it had launched then */
    uint64_t in_at;    /* when it was last admitted */
    uint64_t empty_at; /* since when it has had nothing in flight; 0: it has */
    uint64_t follow;   /* launches since `base` up to which it follows another rank, out of turn; 0: it follows none */
};

/* What a process publishes before it looks at the others. */
struct kerf_pulse kerf_rank_pulse(const struct kerf_rank *rank, bool wants, bool hungry, uint64_t in_flight_ns, uint64_t launched);

/*
 * Whether this process may launch now, as far as other gangs are concerned. KERF_GANG_OUT: `quota` launches only, which
 * another rank of its container waits for; `pulse` is then published again. `launched` is what it has launched in all.
 */
enum kerf_admission kerf_gang_settle(const struct kerf_gang *gang, struct kerf_seat *own, struct kerf_rank *rank, struct kerf_pulse *pulse,
                                     uint64_t launched, uint64_t now, uint64_t *quota);

#endif
