#include "arbiter/arbiter.h"

#define SILENT_NS 40000000u
#define GIVE_WAY_NS 20000000u /* after its turn a gang lets the others take the slot for so long */
#define DRAIN_NS 2000000u    /* the next gang waits for the work of the one before (1 ms at most), but never longer */
#define ALONE_NS 2000000u
#define REST_NS 2000000u /* so long after its turn a drained gang has a common point to count launches from */
#define SETTLED_NS 100000u /* what is still in flight so long after our own work ended does not just end late */
#define OWNER_SHIFT 48
#define DEADLINE_MASK ((1ULL << OWNER_SHIFT) - 1)

static uint64_t slot_for(int tenant, uint64_t deadline_ns)
{
    return ((uint64_t)(tenant + 1) << OWNER_SHIFT) | (deadline_ns / 1000 & DEADLINE_MASK);
}

static int owner_of(uint64_t slot)
{
    return (int)(slot >> OWNER_SHIFT) - 1;
}

static uint64_t deadline_of(uint64_t slot)
{
    return (slot & DEADLINE_MASK) * 1000;
}

static unsigned members_of(const struct kerf_seat *seat)
{
    return seat->node_wide ? KERF_NODE_MEMBERS : KERF_LOCAL_MEMBERS;
}

/* A member of a gang that is alive; its want bits in `want`. */
static bool in_gang(const struct kerf_seat *seat, unsigned i, uint32_t *want, uint64_t now)
{
    const struct kerf_member *member = &seat->members[i];
    *want = __atomic_load_n(&member->want, __ATOMIC_ACQUIRE);
    return __atomic_load_n(&member->token, __ATOMIC_ACQUIRE) && (*want & KERF_WANT_GANG) && member->tenant < KERF_NODE_TENANTS &&
           __atomic_load_n(&member->heartbeat_ns, __ATOMIC_ACQUIRE) + SILENT_NS > now;
}

/* Other gangs at this card, as a bit per tenant: those that want the card at all, and those that wait for the slot. */
static uint32_t others_at(const struct kerf_seat *seat, uint32_t *waiting, uint64_t now)
{
    uint32_t present = 0, want;
    *waiting = 0;
    for (unsigned i = 0; i < members_of(seat); i++) {
        if (!in_gang(seat, i, &want, now) || (int)seat->members[i].tenant == seat->tenant)
            continue;
        present |= want & (KERF_WANT_CARD | KERF_WANT_SLOT) ? 1u << seat->members[i].tenant : 0;
        *waiting |= want & KERF_WANT_SLOT ? 1u << seat->members[i].tenant : 0;
    }
    return present;
}

static struct kerf_candidate candidate(const struct kerf_seat *seat, int tenant)
{
    const struct kerf_tenant *of = &seat->tenants[tenant];
    return (struct kerf_candidate){ tenant, __atomic_load_n(&of->priority, __ATOMIC_ACQUIRE), __atomic_load_n(&of->vtime, __ATOMIC_ACQUIRE) };
}

/* Whether we come before all that wait for the slot. */
static bool is_next(const struct kerf_seat *seat, uint32_t waiting)
{
    struct kerf_candidate all[KERF_NODE_TENANTS + 1] = { candidate(seat, seat->tenant) };
    int count = 1;
    for (int i = 0; i < (int)KERF_NODE_TENANTS; i++)
        if (waiting & 1u << i)
            all[count++] = candidate(seat, i);
    return kerf_decide_next(all, count) == 0;
}

static uint64_t lease(const struct kerf_seat *seat, uint32_t present)
{
    uint32_t own = seat->tenants[seat->tenant].weight, total = own ? own : 1;
    for (unsigned i = 0; i < KERF_NODE_TENANTS; i++)
        total += present & 1u << i ? seat->tenants[i].weight : 0;
    return kerf_decide_lease(kerf_within(seat->head->period_us, 2000, 1000000) * 1000, own ? own : 1, total);
}

/* Work that a container has in flight on this card. */
static uint64_t in_flight_of(const struct kerf_seat *seat, int tenant, uint64_t now)
{
    uint64_t sum = 0;
    uint32_t want;
    for (unsigned i = 0; i < members_of(seat); i++)
        if ((int)seat->members[i].tenant == tenant && in_gang(seat, i, &want, now))
            sum += __atomic_load_n(&seat->members[i].in_flight_ns, __ATOMIC_ACQUIRE);
    return sum;
}

static bool owns(const struct kerf_seat *seat, uint64_t now)
{
    uint64_t slot = __atomic_load_n(&seat->head->gang, __ATOMIC_ACQUIRE);
    return owner_of(slot) == seat->tenant && now < deadline_of(slot);
}

enum hold { NOT_HELD = 0, HELD = 1, JUST_TAKEN = 2 };

static enum hold take(struct kerf_seat *seat, uint32_t waiting, uint64_t now, uint64_t deadline)
{
    uint64_t slot = __atomic_load_n(&seat->head->gang, __ATOMIC_ACQUIRE), ends = deadline_of(slot);
    bool ours = owner_of(slot) == seat->tenant;
    if (now < ends)
        return ours ? HELD : NOT_HELD;
    /*
     * It is free. The work of its last owner spins for peers when its ranks no longer run side by side, so
     * it may drain first; that work may itself wait for something, so the wait is short whatever happens.
     */
    if (!ours && now < ends + DRAIN_NS && in_flight_of(seat, owner_of(slot), now))
        return NOT_HELD;
    /* For a moment the last owner gives way, and so does every gang that is not next. */
    uint32_t rivals = owner_of(slot) >= 0 ? waiting & ~(1u << (owner_of(slot) & 31)) : waiting;
    if (rivals && now < ends + (ours ? DRAIN_NS : 0) + GIVE_WAY_NS && (ours || !is_next(seat, rivals)))
        return NOT_HELD;
    if (__atomic_compare_exchange_n(&seat->head->gang, &slot, slot_for(seat->tenant, deadline), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return JUST_TAKEN;
    return owner_of(slot) == seat->tenant ? HELD : NOT_HELD;
}

/* Until another deadline; a slot that is no longer ours stays as it is. */
static void prolong(struct kerf_seat *seat, uint64_t deadline)
{
    uint64_t slot = __atomic_load_n(&seat->head->gang, __ATOMIC_ACQUIRE);
    while (owner_of(slot) == seat->tenant && deadline_of(slot) < deadline &&
           !__atomic_compare_exchange_n(&seat->head->gang, &slot, slot_for(seat->tenant, deadline), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
}

/* Launches of the rank of ours that has launched most in this turn. */
static uint64_t most_launches(const struct kerf_gang *gang, uint64_t now)
{
    uint64_t most = 0;
    uint32_t want;
    for (int s = 0; s < gang->count; s++) {
        const struct kerf_seat *seat = gang->seats[s];
        for (unsigned i = 0; i < members_of(seat); i++) {
            uint64_t launches = __atomic_load_n(&seat->members[i].launches, __ATOMIC_ACQUIRE);
            if ((int)seat->members[i].tenant == seat->tenant && in_gang(seat, i, &want, now) && launches > most)
                most = launches;
        }
    }
    return most;
}

/* Nothing of ours is in flight on any of our cards: every rank has launched as much as the others. */
static bool drained(const struct kerf_gang *gang, uint64_t now)
{
    for (int i = 0; i < gang->count; i++)
        if (in_flight_of(gang->seats[i], gang->seats[i]->tenant, now))
            return false;
    return true;
}

/* Another rank has had work in flight since ours ended: a collective of its waits for a launch of ours. */
static bool is_waited_for(const struct kerf_gang *gang, const struct kerf_rank *rank, uint64_t now)
{
    uint32_t want;
    for (int s = 0; s < gang->count && rank->empty_at; s++) {
        const struct kerf_seat *seat = gang->seats[s];
        for (unsigned i = 0; i < members_of(seat); i++) {
            const struct kerf_member *member = &seat->members[i];
            if ((int)member->tenant == seat->tenant && in_gang(seat, i, &want, now) && __atomic_load_n(&member->in_flight_ns, __ATOMIC_ACQUIRE) &&
                __atomic_load_n(&member->heartbeat_ns, __ATOMIC_ACQUIRE) >= rank->empty_at + SETTLED_NS)
                return true;
        }
    }
    return false;
}

/*
 * Out of turn, a rank that launched less than another one holds that one up, and its spinning takes half of a card from
 * the gang whose turn it is. It follows by the difference; without a common point to count from, one by one.
 */
static uint64_t lag(const struct kerf_gang *gang, struct kerf_rank *rank, uint64_t launches, uint64_t now)
{
    if (rank->follow <= launches)
        rank->follow = rank->counted && is_waited_for(gang, rank, now) ? most_launches(gang, now) : 0;
    if (rank->follow > launches)
        return rank->follow - launches;
    return is_waited_for(gang, rank, now);
}

static enum kerf_admission admit(const struct kerf_gang *gang, bool wants, uint64_t now)
{
    uint32_t present = 0, first = 0, waiting[KERF_CARDS_MAX];
    for (int i = 0; i < gang->count; i++) {
        uint32_t here = others_at(gang->seats[i], &waiting[i], now);
        first = i ? first : here;
        present |= here;
    }
    if (!present) {
        for (int i = 0; i < gang->count && wants; i++)
            (void)take(gang->seats[i], 0, now, now + ALONE_NS); /* so that a newcomer lets our work drain */
        return KERF_GANG_ALONE;
    }
    uint64_t deadline = now + lease(gang->seats[0], first);
    bool in = true, begins = false;
    for (int i = 0; i < gang->count && in; i++) {
        enum hold hold = wants ? take(gang->seats[i], waiting[i], now, deadline) : owns(gang->seats[i], now) ? HELD : NOT_HELD;
        in = hold != NOT_HELD;
        begins = begins || hold == JUST_TAKEN;
    }
    /* A turn begins with the last slot and ends for all at once, or no gang would have all of its cards between two ends. */
    for (int i = 0; i < gang->count && in && begins; i++)
        prolong(gang->seats[i], deadline);
    return in ? KERF_GANG_IN : KERF_GANG_OUT;
}

/* Out of turn a container wants the slot, without a gap in which another gang would take one more turn, and no more than that. */
struct kerf_pulse kerf_rank_pulse(const struct kerf_rank *rank, bool wants, bool hungry, uint64_t in_flight_ns, uint64_t launched)
{
    uint32_t more = !rank->out ? (hungry ? KERF_WANT_MORE : 0) : wants ? KERF_WANT_SLOT : 0;
    return (struct kerf_pulse){
        .want = more | (wants ? KERF_WANT_CARD : 0) | (rank->spans ? KERF_WANT_GANG : 0),
        .in_flight_ns = in_flight_ns,
        .launches = rank->counted ? launched - rank->base : 0,
    };
}

enum kerf_admission kerf_gang_settle(const struct kerf_gang *gang, struct kerf_seat *own, struct kerf_rank *rank, struct kerf_pulse *pulse,
                                     uint64_t launched, uint64_t now, uint64_t *quota)
{
    bool wants = pulse->want & KERF_WANT_CARD;
    enum kerf_admission admission = admit(gang, wants, now);
    rank->empty_at = pulse->in_flight_ns ? 0 : rank->empty_at ? rank->empty_at : now;
    rank->out = wants && admission == KERF_GANG_OUT;
    *quota = 0;
    if (admission != KERF_GANG_OUT) {
        rank->counted = rank->counted && admission == KERF_GANG_IN;
        rank->in_at = now;
        rank->follow = 0;
        return admission;
    }
    *quota = lag(gang, rank, pulse->launches, now);
    /* Well after the turn: both ranks see the same, and neither launches. */
    if (rank->in_at + REST_NS < now && drained(gang, now)) {
        rank->base = launched;
        rank->counted = true;
        rank->follow = 0;
    }
    *pulse = kerf_rank_pulse(rank, wants, false, pulse->in_flight_ns, launched);
    kerf_seat_publish(own, pulse, now);
    return admission;
}
