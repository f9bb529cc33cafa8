/* Taking turns on a card with the other processes on its arbiter. No driver calls here. */
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
    uint64_t charged_from; /* turn time before this is charged */
    uint64_t held_from;
    bool node_wide;
};

/* Sits down at the card's arbiter: the node-wide one its record names, else the container's own. */
void kerf_turn_open(struct kerf_seat *seat, unsigned card);
void kerf_turn_join(struct kerf_seat *seat, unsigned card, uint64_t now); /* again, if the seat was lost */
void kerf_turn_beat(struct kerf_seat *seat, bool want, uint64_t now);
KERF_MUST_CHECK bool kerf_turn_take(struct kerf_seat *seat, uint64_t now); /* true: ours */
KERF_MUST_CHECK bool kerf_turn_is_ours(const struct kerf_seat *seat);
void kerf_turn_charge(struct kerf_seat *seat, uint64_t now); /* held time so far, to the tenant */
KERF_MUST_CHECK bool kerf_turn_must_yield(struct kerf_seat *seat, bool out_of_budget, bool idle, uint64_t now);
void kerf_turn_pass(struct kerf_seat *seat, uint64_t now); /* to whoever is next, else lie idle with us */
void kerf_turn_decline(struct kerf_seat *seat, uint64_t now); /* pass on a turn that came unasked */
void kerf_turn_rest(struct kerf_seat *seat, uint64_t now); /* keep it, but anyone may take it */
void kerf_turn_leave(struct kerf_seat *seat, uint64_t now); /* for good: turn and seat are free at once */
void kerf_turn_spend(struct kerf_seat *seat, uint64_t busy_ns);
int64_t kerf_turn_budget(struct kerf_seat *seat, uint32_t cap, uint32_t trim, uint64_t in_flight, uint64_t now);
void kerf_turn_retrim(struct kerf_seat *seat, uint32_t cap, uint32_t trim, uint64_t now); /* before `trim` changes */
void kerf_turn_await(struct kerf_seat *seat, uint64_t timeout_ns); /* until the turn moves */

#endif
