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
    int tenant, member; /* -1 = not seated: limited by own time alone */
    uint64_t token;
    bool node_wide;
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
    KERF_GANG_OUT = 2,
    KERF_GANG_CATCH_UP = 3, /* its turn is over, and another rank has launched more: follow it, and no further */
};
struct kerf_rank {
    bool wants;
    bool counted;      /* `launches` is since a moment when the whole gang was drained */
    uint64_t launches;
    uint64_t in_flight_ns;
    uint64_t last_in;  /* when this process was last admitted */
    uint64_t lag;      /* out: launches by which another rank is ahead after the turn */
};
enum kerf_admission kerf_gang_admit(const struct kerf_gang *gang, struct kerf_rank *rank, uint64_t now);
bool kerf_gang_drained(const struct kerf_gang *gang, uint64_t now);

#endif
