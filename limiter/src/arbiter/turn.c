/*
 * One card, many processes: at any time one of them has the turn and feeds the GPU. A turn word in
 * shared memory says who; it is passed when the holder's part of the round is over and its work has
 * drained, so the time between taking and passing is GPU time nobody else had. No lock anywhere: a
 * holder that stops beating (dead, stopped, out of CPU) loses the turn to whoever waits.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arbiter/arbiter.h"

#define SILENT_NS 40000000u      /* a holder that has not beaten for so long has lost its turn */
#define GONE_NS 2000000000ull    /* a member that has not for so long has left */
#define FORGOTTEN_NS 60000000000ull /* a tenant: its history is dropped */
#define BUSY (1ULL << 40)
#define SEQ_MASK (BUSY - 1)

static int holder_of(uint64_t word)
{
    return (int)(word >> 48) - 1;
}

static uint64_t word_for(int member, bool busy, uint64_t before)
{
    return ((uint64_t)(member + 1) << 48) | (busy ? BUSY : 0) | ((before + 1) & SEQ_MASK);
}

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static bool silent(const struct kerf_member *member, uint64_t now, uint64_t patience)
{
    uint64_t beat = load(&member->heartbeat_ns);
    return beat + patience < now;
}

static void place(struct kerf_seat *seat, struct kerf_arbiter *head)
{
    seat->head = head;
    seat->tenants = (struct kerf_tenant *)(head + 1);
    seat->members = (struct kerf_member *)(seat->tenants + head->tenant_count);
}

static struct kerf_arbiter *map_node(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return NULL;
    bool whole = lseek(fd, 0, SEEK_END) == (off_t)KERF_NODE_ARBITER_BYTES;
    struct kerf_arbiter *head = whole ? mmap(NULL, KERF_NODE_ARBITER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (head == MAP_FAILED)
        return NULL;
    /* Counts are checked, not trusted: every container on the card can write here. */
    if (head->magic == KERF_ARBITER_MAGIC && head->abi == KERF_ARBITER_ABI && head->tenant_count == KERF_NODE_TENANTS && head->member_count == KERF_NODE_MEMBERS)
        return head;
    munmap(head, KERF_NODE_ARBITER_BYTES);
    return NULL;
}

static unsigned members_of(const struct kerf_seat *seat)
{
    return seat->node_wide ? KERF_NODE_MEMBERS : KERF_LOCAL_MEMBERS;
}

static unsigned tenants_of(const struct kerf_seat *seat)
{
    return seat->node_wide ? KERF_NODE_TENANTS : KERF_LOCAL_TENANTS;
}

static uint64_t round_ns(const struct kerf_seat *seat)
{
    uint32_t us = seat->head->period_us;
    return (us < 2000 ? 2000 : us > 1000000 ? 1000000 : us) * 1000ull;
}

void kerf_turn_open(struct kerf_seat *seat, unsigned card)
{
    const char *path = kerf.ledger->cards[card].arbiter;
    struct kerf_arbiter *node = path[0] ? map_node(path) : NULL;
    seat->tenant = seat->member = -1;
    seat->node_wide = node != NULL;
    if (path[0] && !node) {
        kerf_count(KERF_EVENT_NO_ARBITER);
        kerf_say("the card's arbiter file cannot be used; this container's share is not balanced against its neighbours'");
    }
    place(seat, node ? node : &kerf.ledger->arbiters[card].head);
    kerf_turn_join(seat, card, kerf_now_ns());
}

static int find_tenant(struct kerf_seat *seat, uint64_t now)
{
    for (unsigned i = 0; i < tenants_of(seat); i++)
        if (load(&seat->tenants[i].id) == kerf.tenant_id)
            return (int)i;
    for (unsigned i = 0; i < tenants_of(seat); i++) {
        struct kerf_tenant *tenant = &seat->tenants[i];
        uint64_t id = load(&tenant->id);
        if (id && load(&tenant->seen_ns) + FORGOTTEN_NS > now)
            continue;
        store(&tenant->seen_ns, now); /* before the id, for the same reason as below */
        if (!__atomic_compare_exchange_n(&tenant->id, &id, kerf.tenant_id, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            if (id == kerf.tenant_id)
                return (int)i;
            continue;
        }
        store(&tenant->vtime, load(&seat->head->vclock));
        store(&tenant->spent_ns, 0);
        store(&tenant->held_ns, 0);
        store(&tenant->epoch_ns, now);
        return (int)i;
    }
    return -1;
}

static int find_member(struct kerf_seat *seat, uint64_t now)
{
    for (unsigned i = 0; i < members_of(seat); i++) {
        struct kerf_member *member = &seat->members[i];
        uint64_t token = load(&member->token);
        if (token && !silent(member, now, GONE_NS))
            continue;
        store(&member->heartbeat_ns, now); /* before the token: a seat just taken must not look deserted */
        if (!__atomic_compare_exchange_n(&member->token, &token, seat->token, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            continue;
        __atomic_store_n(&member->tenant, (uint32_t)seat->tenant, __ATOMIC_RELEASE);
        __atomic_store_n(&member->want, 0, __ATOMIC_RELEASE);
        member->pid = kerf.pid;
        store(&member->held_ns, 0);
        return (int)i;
    }
    return -1;
}

void kerf_turn_join(struct kerf_seat *seat, unsigned card, uint64_t now)
{
    if (seat->member >= 0 && load(&seat->members[seat->member].token) == seat->token)
        return;
    const struct kerf_card *record = &kerf.ledger->cards[card];
    seat->token = ((uint64_t)(uint32_t)kerf.pid << 32) ^ now ^ kerf.tenant_id ^ (uintptr_t)seat;
    seat->token |= 1;
    seat->tenant = find_tenant(seat, now);
    seat->member = seat->tenant >= 0 ? find_member(seat, now) : -1;
    if (seat->member < 0) {
        kerf_count(KERF_EVENT_NO_ARBITER);
        return;
    }
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    bool ranked = kerf.ledger->header.policy == KERF_POLICY_PRIORITY;
    __atomic_store_n(&tenant->weight, record->weight, __ATOMIC_RELEASE);
    __atomic_store_n(&tenant->priority, ranked ? kerf.ledger->header.priority : 0, __ATOMIC_RELEASE);
    store(&tenant->seen_ns, now);
}

/* Weights of the tenants that are at work now, ours included, and ours alone. */
static uint32_t weights(const struct kerf_seat *seat, uint64_t now, uint32_t *own)
{
    uint32_t others = 0;
    *own = __atomic_load_n(&seat->tenants[seat->tenant].weight, __ATOMIC_ACQUIRE);
    for (unsigned i = 0; i < tenants_of(seat); i++)
        if ((int)i != seat->tenant && load(&seat->tenants[i].id) && load(&seat->tenants[i].seen_ns) + GONE_NS > now)
            others += __atomic_load_n(&seat->tenants[i].weight, __ATOMIC_ACQUIRE);
    *own = kerf_decide_weight(*own, others);
    return *own + others;
}

void kerf_turn_beat(struct kerf_seat *seat, bool want, uint64_t now)
{
    if (seat->member < 0)
        return;
    struct kerf_member *member = &seat->members[seat->member];
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    store(&member->heartbeat_ns, now);
    if (want && load(&tenant->seen_ns) + SILENT_NS < now) {
        uint32_t own, total = weights(seat, now, &own);
        store(&tenant->vtime, kerf_decide_wake(load(&tenant->vtime), load(&seat->head->vclock), round_ns(seat), total));
    }
    store(&tenant->seen_ns, now);
    __atomic_store_n(&member->want, want, __ATOMIC_RELEASE);
}

bool kerf_turn_is_ours(const struct kerf_seat *seat)
{
    uint64_t word = load(&seat->head->turn);
    return seat->member < 0 || (holder_of(word) == seat->member && load(&seat->members[seat->member].token) == seat->token);
}

/* The card's clock follows whoever is served, so that one who wakes has no credit for having slept. */
static void advance_clock(struct kerf_seat *seat, uint64_t vtime)
{
    if (vtime > load(&seat->head->vclock))
        store(&seat->head->vclock, vtime);
}

static void begin(struct kerf_seat *seat, uint64_t now)
{
    seat->charged_from = seat->held_from = now;
    store(&seat->head->since_ns, now);
    advance_clock(seat, load(&seat->tenants[seat->tenant].vtime));
}

bool kerf_turn_take(struct kerf_seat *seat, uint64_t now)
{
    if (seat->member < 0)
        return true;
    uint64_t word = load(&seat->head->turn);
    int holder = holder_of(word);
    bool known = holder >= 0 && holder < (int)members_of(seat);
    bool mine = holder == seat->member;
    bool lost = known && !mine && (word & BUSY) && silent(&seat->members[holder], now, SILENT_NS);
    if (known && !mine && (word & BUSY) && !lost)
        return false;
    if (!(mine && (word & BUSY)) &&
        !__atomic_compare_exchange_n(&seat->head->turn, &word, word_for(seat->member, true, word), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return false;
    if (lost)
        kerf_count(KERF_EVENT_TURN_TAKEN);
    begin(seat, now);
    return true;
}

void kerf_turn_charge(struct kerf_seat *seat, uint64_t now)
{
    if (seat->member < 0 || now <= seat->charged_from)
        return;
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    uint64_t held = now - seat->charged_from;
    uint32_t own;
    weights(seat, now, &own);
    advance_clock(seat, __atomic_add_fetch(&tenant->vtime, held * KERF_UNIT / own, __ATOMIC_ACQ_REL));
    __atomic_add_fetch(&tenant->held_ns, held, __ATOMIC_RELAXED);
    __atomic_add_fetch(&seat->members[seat->member].held_ns, held, __ATOMIC_RELAXED);
    seat->charged_from = now;
}

static int collect(const struct kerf_seat *seat, struct kerf_candidate *out, uint64_t now)
{
    int count = 0;
    for (unsigned i = 0; i < members_of(seat); i++) {
        const struct kerf_member *member = &seat->members[i];
        uint32_t tenant = __atomic_load_n(&member->tenant, __ATOMIC_ACQUIRE);
        if ((int)i == seat->member || !load(&member->token) || !__atomic_load_n(&member->want, __ATOMIC_ACQUIRE))
            continue;
        if (tenant >= tenants_of(seat) || silent(member, now, SILENT_NS))
            continue;
        out[count++] = (struct kerf_candidate){ (int)i, seat->tenants[tenant].priority, load(&seat->tenants[tenant].vtime) };
    }
    return count;
}

bool kerf_turn_must_yield(struct kerf_seat *seat, bool out_of_budget, bool idle, uint64_t now)
{
    if (seat->member < 0)
        return false;
    struct kerf_candidate others[KERF_NODE_MEMBERS];
    int best = kerf_decide_next(others, collect(seat, others, now));
    if (best < 0)
        return false;
    const struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    uint32_t own, total = weights(seat, now, &own);
    struct kerf_turn turn = {
        .held_ns = now - seat->held_from,
        .quantum_ns = kerf_decide_quantum(round_ns(seat), own, total),
        .round_ns = round_ns(seat),
        .vtime = load(&tenant->vtime),
        .priority = tenant->priority,
        .total_weight = total,
        .out_of_budget = out_of_budget,
        .idle = idle,
    };
    return kerf_decide_yield(&turn, &others[best]);
}

static void move(struct kerf_seat *seat, int next, bool busy)
{
    uint64_t word = load(&seat->head->turn);
    if (holder_of(word) != seat->member)
        return; /* it was taken from us */
    if (!__atomic_compare_exchange_n(&seat->head->turn, &word, word_for(next, busy, word), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return;
    __atomic_add_fetch(&seat->head->bell, 1, __ATOMIC_ACQ_REL);
    kerf_futex_wake(&seat->head->bell, INT32_MAX, true);
}

void kerf_turn_pass(struct kerf_seat *seat, uint64_t now)
{
    if (seat->member < 0)
        return;
    struct kerf_candidate others[KERF_NODE_MEMBERS];
    kerf_turn_charge(seat, now);
    int best = kerf_decide_next(others, collect(seat, others, now));
    if (best >= 0)
        move(seat, others[best].member, true);
    else
        move(seat, seat->member, false);
}

void kerf_turn_decline(struct kerf_seat *seat, uint64_t now)
{
    if (seat->member < 0 || !kerf_turn_is_ours(seat) || !(load(&seat->head->turn) & BUSY))
        return;
    seat->charged_from = now; /* it was never used */
    kerf_turn_pass(seat, now);
}

void kerf_turn_rest(struct kerf_seat *seat, uint64_t now)
{
    if (seat->member < 0)
        return;
    kerf_turn_charge(seat, now);
    move(seat, seat->member, false);
}

void kerf_turn_leave(struct kerf_seat *seat, uint64_t now)
{
    if (seat->member < 0)
        return;
    kerf_turn_beat(seat, false, now);
    kerf_turn_decline(seat, now);
    uint64_t token = seat->token;
    __atomic_compare_exchange_n(&seat->members[seat->member].token, &token, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    seat->member = -1;
}

void kerf_turn_spend(struct kerf_seat *seat, uint64_t busy_ns)
{
    if (seat->tenant >= 0)
        __atomic_add_fetch(&seat->tenants[seat->tenant].spent_ns, busy_ns, __ATOMIC_ACQ_REL);
}

/*
 * What the cap leaves this container now beyond its work in flight, in nanoseconds of GPU time; credit
 * of more than a burst is forgotten.
 */
int64_t kerf_turn_budget(struct kerf_seat *seat, uint32_t cap, uint32_t trim, uint64_t in_flight, uint64_t now)
{
    if (seat->tenant < 0)
        return INT64_MAX;
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    uint64_t epoch = load(&tenant->epoch_ns), spent = load(&tenant->spent_ns) + in_flight;
    uint64_t most = kerf_decide_elapsed(cap, trim, spent), elapsed = now > epoch ? now - epoch : 0;
    if (elapsed > most) {
        __atomic_compare_exchange_n(&tenant->epoch_ns, &epoch, now - most, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
        elapsed = most;
    }
    return kerf_decide_budget(cap, trim, elapsed, spent);
}

/* A new trim must not rewrite the past: the account is closed and opened again with its present balance. */
void kerf_turn_retrim(struct kerf_seat *seat, uint32_t cap, uint32_t trim, uint64_t now)
{
    int64_t left = kerf_turn_budget(seat, cap, trim, 0, now);
    if (seat->tenant < 0)
        return;
    store(&seat->tenants[seat->tenant].spent_ns, left < 0 ? (uint64_t)-left : 0);
    store(&seat->tenants[seat->tenant].epoch_ns, now);
}

void kerf_turn_await(struct kerf_seat *seat, uint64_t timeout_ns)
{
    uint32_t bell = __atomic_load_n(&seat->head->bell, __ATOMIC_ACQUIRE);
    if (!kerf_turn_is_ours(seat))
        kerf_futex_wait(&seat->head->bell, bell, timeout_ns, true);
}
