#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arbiter/arbiter.h"

#define SILENT_NS 40000000u         /* a member without a heartbeat for so long is not counted: dead, stopped, out of CPU */
#define GONE_NS 2000000000ull       /* for so long: it has left */
#define FORGOTTEN_NS 60000000000ull /* a tenant: its history is dropped */
#define WAKE_NS 2000000u            /* a container without work for so long wakes when it has some */
#define CAP_BURST_NS 1000000000ull  /* x share: what a cap lets a container save up */
#define SHARE_BURST_NS 250000000ull /* x share: the same where the share is a weight */
#define SHARE_DEBT_NS 100000000     /* what it may be over its share before that is forgotten */

static uint64_t load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static uint32_t load32(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static bool silent(const struct kerf_member *member, uint64_t now, uint64_t patience)
{
    return load(&member->heartbeat_ns) + patience < now;
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

void kerf_seat_open(struct kerf_seat *seat, unsigned card)
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
    kerf_seat_join(seat, card, kerf_now_ns());
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
        __atomic_store_n(&tenant->balance_ns, 0, __ATOMIC_RELEASE);
        store(&tenant->epoch_ns, 0);
        store(&tenant->moved_ns, now);
        store(&tenant->active_ns, 0);
        return (int)i;
    }
    return -1;
}

/* Every container on the card can write here: one that says it was seen in the future is no reason to wait for ever. */
static uint64_t away_for(const struct kerf_tenant *tenant, uint64_t now)
{
    uint64_t seen = load(&tenant->seen_ns);
    return seen > now + GONE_NS ? UINT64_MAX : seen > now ? 0 : now - seen;
}

/* Empties the row of the tenant that has been away longest, if it has left. */
static bool forget_one(struct kerf_seat *seat, uint64_t now)
{
    struct kerf_tenant *oldest = &seat->tenants[0];
    for (unsigned i = 1; i < tenants_of(seat); i++)
        if (away_for(&seat->tenants[i], now) > away_for(oldest, now))
            oldest = &seat->tenants[i];
    uint64_t id = load(&oldest->id);
    return away_for(oldest, now) > GONE_NS && __atomic_compare_exchange_n(&oldest->id, &id, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
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
        __atomic_store_n(&member->waits, 0, __ATOMIC_RELEASE);
        member->pid = kerf.pid;
        store(&member->launches, 0);
        store(&member->in_flight_ns, 0);
        store(&member->synced_ns, 0);
        store(&member->step_ns, 0);
        return (int)i;
    }
    return -1;
}

static bool is_seated(const struct kerf_seat *seat)
{
    return seat->member >= 0 && load(&seat->members[seat->member].token) == seat->token;
}

static bool has_account(const struct kerf_seat *seat)
{
    return seat->tenant >= 0 && load(&seat->tenants[seat->tenant].id) == kerf.tenant_id;
}

void kerf_seat_join(struct kerf_seat *seat, unsigned card, uint64_t now)
{
    if (is_seated(seat) && has_account(seat))
        return;
    kerf_seat_leave(seat);
    const struct kerf_card *record = &kerf.ledger->cards[card];
    seat->token = ((uint64_t)(uint32_t)kerf.pid << 32) ^ now ^ kerf.tenant_id ^ (uintptr_t)seat;
    seat->token |= 1;
    seat->tenant = find_tenant(seat, now);
    if (seat->tenant < 0 && forget_one(seat, now))
        seat->tenant = find_tenant(seat, now);
    seat->member = seat->tenant >= 0 ? find_member(seat, now) : -1;
    if (seat->member < 0 && !seat->counted)
        kerf_count(KERF_EVENT_NO_ARBITER);
    seat->counted = seat->member < 0;
    if (seat->tenant < 0)
        return;
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    bool ranked = kerf.ledger->header.policy == KERF_POLICY_PRIORITY;
    __atomic_store_n(&tenant->weight, record->weight, __ATOMIC_RELEASE);
    __atomic_store_n(&tenant->priority, ranked ? kerf.ledger->header.priority : 0, __ATOMIC_RELEASE);
    store(&tenant->seen_ns, now);
}

void kerf_seat_leave(struct kerf_seat *seat)
{
    if (!is_seated(seat))
        return;
    uint64_t token = seat->token;
    __atomic_store_n(&seat->members[seat->member].want, 0, __ATOMIC_RELEASE);
    __atomic_compare_exchange_n(&seat->members[seat->member].token, &token, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    seat->member = -1;
}

static bool here_lately(const struct kerf_tenant *tenant, uint64_t now)
{
    return load(&tenant->id) && load(&tenant->seen_ns) + GONE_NS > now;
}

/* Weights of the others that were here lately; ours in `own`. */
static uint32_t weights(const struct kerf_seat *seat, uint64_t now, uint32_t *own)
{
    uint32_t others = 0;
    for (unsigned i = 0; i < tenants_of(seat); i++)
        if ((int)i != seat->tenant && here_lately(&seat->tenants[i], now))
            others += load32(&seat->tenants[i].weight);
    *own = kerf_decide_weight(load32(&seat->tenants[seat->tenant].weight), others);
    return others;
}

static void raise_to(uint64_t *word, uint64_t value)
{
    uint64_t now = load(word);
    while (now < value && !__atomic_compare_exchange_n(word, &now, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
}

void kerf_seat_publish(struct kerf_seat *seat, const struct kerf_pulse *pulse, uint64_t now)
{
    if (seat->tenant < 0)
        return;
    struct kerf_member *member = seat->member < 0 ? NULL : &seat->members[seat->member];
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    if (member) {
        store(&member->heartbeat_ns, now);
        store(&member->in_flight_ns, pulse->in_flight_ns);
        store(&member->launches, pulse->launches);
    }
    if (pulse->want & KERF_WANT_CARD) {
        if (load(&tenant->active_ns) + WAKE_NS < now)
            store(&tenant->moved_ns, now);
        store(&tenant->active_ns, now);
    }
    store(&tenant->seen_ns, now);
    if (member)
        __atomic_store_n(&member->want, pulse->want, __ATOMIC_RELEASE);
}

void kerf_seat_charge(struct kerf_seat *seat, uint64_t busy_ns, uint64_t now)
{
    if (seat->tenant < 0 || !busy_ns)
        return;
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    uint32_t own;
    weights(seat, now, &own);
    raise_to(&seat->head->vclock, __atomic_add_fetch(&tenant->vtime, busy_ns * KERF_UNIT / own, __ATOMIC_ACQ_REL));
    __atomic_sub_fetch(&tenant->balance_ns, (int64_t)busy_ns, __ATOMIC_ACQ_REL);
    store(&tenant->moved_ns, now);
}

void kerf_seat_sync_begin(struct kerf_seat *seat)
{
    if (seat->member >= 0)
        __atomic_add_fetch(&seat->members[seat->member].waits, 1, __ATOMIC_ACQ_REL);
}

void kerf_seat_sync_end(struct kerf_seat *seat, uint64_t step_ns, uint64_t now)
{
    if (seat->member < 0)
        return;
    struct kerf_member *member = &seat->members[seat->member];
    uint32_t waits = load32(&member->waits);
    while (waits && !__atomic_compare_exchange_n(&member->waits, &waits, waits - 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        ;
    store(&member->step_ns, step_ns);
    store(&member->synced_ns, now);
}

/*
 * The span since the account was last brought up to date; one of the processes that look gets it. The
 * account opens with the first work, so that a slow start earns nothing.
 */
static uint64_t claim_span(struct kerf_tenant *tenant, uint64_t now)
{
    uint64_t epoch = load(&tenant->epoch_ns);
    if (!epoch) {
        __atomic_compare_exchange_n(&tenant->epoch_ns, &epoch, load(&tenant->active_ns), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
        return 0;
    }
    if (now <= epoch || !__atomic_compare_exchange_n(&tenant->epoch_ns, &epoch, now, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return 0;
    return now - epoch;
}

static int64_t refill(struct kerf_tenant *tenant, uint32_t cap_percent, uint32_t share, uint64_t now)
{
    uint64_t span = claim_span(tenant, now);
    int64_t balance = __atomic_load_n(&tenant->balance_ns, __ATOMIC_ACQUIRE), next;
    int64_t most = (int64_t)((cap_percent ? CAP_BURST_NS : SHARE_BURST_NS) / 1000 * share);
    do {
        next = kerf_decide_refill(balance, span, share, most, cap_percent ? INT64_MIN / 2 : -(int64_t)SHARE_DEBT_NS);
    } while (next != balance && !__atomic_compare_exchange_n(&tenant->balance_ns, &balance, next, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    return next;
}

static void add_member(struct kerf_peer *peer, const struct kerf_member *member)
{
    uint32_t want = load32(&member->want);
    uint64_t synced = load(&member->synced_ns);
    peer->hungry |= (want & KERF_WANT_MORE) != 0;
    peer->gang |= (want & KERF_WANT_GANG) != 0;
    peer->in_flight_ns += load(&member->in_flight_ns);
    peer->blocked |= load32(&member->waits) > 0 && (want & KERF_WANT_CARD);
    if (synced >= peer->synced_ns) {
        peer->synced_ns = synced;
        peer->step_ns = load(&member->step_ns);
    }
}

static struct kerf_peer read_tenant(const struct kerf_tenant *tenant)
{
    return (struct kerf_peer){
        .weight = load32(&tenant->weight),
        .priority = load32(&tenant->priority),
        .vtime = load(&tenant->vtime),
        .moved_ns = load(&tenant->moved_ns),
        .active_ns = load(&tenant->active_ns),
        .balance_ns = __atomic_load_n(&tenant->balance_ns, __ATOMIC_ACQUIRE),
    };
}

int kerf_seat_look(struct kerf_seat *seat, uint32_t cap_percent, struct kerf_self *self, struct kerf_peer peers[KERF_NODE_TENANTS])
{
    int count = 0, index[KERF_NODE_TENANTS];
    self->outside = seat->tenant < 0;
    self->unseen = seat->member < 0;
    if (self->outside)
        return 0;
    struct kerf_tenant *tenant = &seat->tenants[seat->tenant];
    uint32_t others = weights(seat, self->now, &self->weight);
    uint32_t share = cap_percent ? cap_percent * 10 : self->weight * 1000 / (self->weight + others);
    raise_to(&tenant->vtime, kerf_decide_claim(load(&tenant->vtime), load(&seat->head->vclock), self->weight));
    self->priority = load32(&tenant->priority);
    self->processes = 1;
    self->balance_ns = refill(tenant, cap_percent, share, self->now);
    self->capped = cap_percent > 0;
    self->vtime = load(&tenant->vtime);
    for (unsigned i = 0; i < tenants_of(seat); i++) {
        index[i] = (int)i != seat->tenant && here_lately(&seat->tenants[i], self->now) ? count : -1;
        if (index[i] >= 0)
            peers[count++] = read_tenant(&seat->tenants[i]);
    }
    for (unsigned i = 0; i < members_of(seat); i++) {
        const struct kerf_member *member = &seat->members[i];
        uint32_t of = load32(&member->tenant);
        if ((int)i == seat->member || !load(&member->token) || of >= tenants_of(seat) || silent(member, self->now, SILENT_NS))
            continue;
        if ((int)of == seat->tenant) {
            self->in_flight_ns += load(&member->in_flight_ns);
            self->processes++;
        } else if (index[of] >= 0)
            add_member(&peers[index[of]], member);
    }
    return count;
}
