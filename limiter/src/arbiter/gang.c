#include "arbiter/arbiter.h"

#define SILENT_NS 40000000u
#define GIVE_WAY_NS 20000000u /* after its turn a gang lets the others take the slot for so long */
#define DRAIN_NS 2000000u    /* the next gang waits for the work of the one before (1 ms at most), but never longer */
#define ALONE_NS 2000000u
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

static bool take(struct kerf_seat *seat, uint32_t waiting, uint64_t now, uint64_t deadline)
{
    uint64_t slot = __atomic_load_n(&seat->head->gang, __ATOMIC_ACQUIRE), ends = deadline_of(slot);
    bool ours = owner_of(slot) == seat->tenant;
    if (now < ends)
        return ours;
    /*
     * It is free. The work of its last owner spins for peers when its ranks no longer run side by side, so
     * it may drain first; that work may itself wait for something, so the wait is short whatever happens.
     */
    if (!ours && now < ends + DRAIN_NS && in_flight_of(seat, owner_of(slot), now))
        return false;
    /* For a moment the last owner gives way, and so does every gang that is not next. */
    uint32_t rivals = owner_of(slot) >= 0 ? waiting & ~(1u << (owner_of(slot) & 31)) : waiting;
    if (rivals && now < ends + (ours ? DRAIN_NS : 0) + GIVE_WAY_NS && (ours || !is_next(seat, rivals)))
        return false;
    return __atomic_compare_exchange_n(&seat->head->gang, &slot, slot_for(seat->tenant, deadline), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) ||
           owner_of(slot) == seat->tenant;
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
bool kerf_gang_drained(const struct kerf_gang *gang, uint64_t now)
{
    for (int i = 0; i < gang->count; i++)
        if (in_flight_of(gang->seats[i], gang->seats[i]->tenant, now))
            return false;
    return true;
}

/*
 * After a turn: a rank that launched less than another one holds that one up. Where the counts do not
 * start from a common point, it is the rank with nothing in flight while another one has something.
 */
static uint64_t lag(const struct kerf_gang *gang, const struct kerf_rank *rank, uint64_t now)
{
    uint64_t most = rank->counted ? most_launches(gang, now) : 0;
    if (rank->counted)
        return most > rank->launches ? most - rank->launches : 0;
    return !rank->in_flight_ns && !kerf_gang_drained(gang, now);
}

enum kerf_admission kerf_gang_admit(const struct kerf_gang *gang, struct kerf_rank *rank, uint64_t now)
{
    uint32_t present = 0, first = 0, waiting[KERF_CARDS_MAX];
    for (int i = 0; i < gang->count; i++) {
        uint32_t here = others_at(gang->seats[i], &waiting[i], now);
        first = i ? first : here;
        present |= here;
    }
    if (!present) {
        for (int i = 0; i < gang->count && rank->wants; i++)
            (void)take(gang->seats[i], 0, now, now + ALONE_NS); /* so that a newcomer lets our work drain */
        return KERF_GANG_ALONE;
    }
    uint64_t deadline = now + lease(gang->seats[0], first);
    bool in = true;
    for (int i = 0; i < gang->count && in; i++)
        in = rank->wants ? take(gang->seats[i], waiting[i], now, deadline) : owns(gang->seats[i], now);
    if (in)
        return KERF_GANG_IN;
    rank->lag = now < rank->last_in + DRAIN_NS ? lag(gang, rank, now) : 0;
    return rank->lag ? KERF_GANG_CATCH_UP : KERF_GANG_OUT;
}
