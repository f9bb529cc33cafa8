/*
 * Freedom from dead-lock, by a model: containers with a rank on each of two cards run the library's own
 * decisions on arbiters in memory, in every order of their first looks and in thousands of random ones.
 * A card gives its time in parts to all that have work on it, and a collective spins until its peer has begun.
 * In any order, every container whose ranks live must continue, also beside one that lost a rank.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "check.h"

#define US 1000ull
#define MS 1000000ull
#define CONTAINERS 3
#define KERNEL_NS (60 * US)
#define AHEAD_NS MS
#define PATIENCE_NS (250 * MS) /* every container must get on within this */
#define ORDERS 3
#define LOOKS 25000 /* a second: several times the patience, or nothing would ever be missed */
#define FIRST 5 /* halves of looks whose every order is tried */

struct process {
    struct kerf_seat seats[2];
    struct kerf_gang gang;
    int card;              /* where its rank works; single-card containers too */
    bool alive, held, looking; /* looking: it has published, and decides at its next look */
    uint64_t launched, over; /* kernels; every second one is a collective */
    uint64_t spent;        /* card time given to the one that runs */
    uint64_t charged;
    struct kerf_rank rank;
    struct kerf_pulse pulse;
};

struct container {
    int ranks; /* 2: a gang over both cards; 1: alone on card 0 */
    uint32_t weight[2];
    struct process process[2];
    uint64_t done, done_at, slowest;
};

static struct container container[CONTAINERS];
static int containers;
static uint64_t now;
static char path[2][32];
static struct kerf_ledger ledger;
static unsigned seed;

static void fresh_arbiters(void)
{
    struct kerf_arbiter head = { KERF_ARBITER_MAGIC, KERF_ARBITER_ABI, KERF_NODE_TENANTS, KERF_NODE_MEMBERS, 30000, 0, 0, 0, 0, 0, 0 };
    for (int card = 0; card < 2; card++) {
        int fd = open(path[card], O_RDWR | O_TRUNC);
        if (fd < 0 || write(fd, &head, sizeof head) < 0 || ftruncate(fd, KERF_NODE_ARBITER_BYTES))
            abort();
        close(fd);
    }
}

static void seat(struct container *c, struct process *p)
{
    p->gang.count = c->ranks;
    p->rank.spans = c->ranks > 1;
    for (int card = 0; card < c->ranks; card++) {
        ledger.cards[card].weight = c->weight[card];
        strcpy(ledger.cards[card].arbiter, path[card]);
        kerf_seat_open(&p->seats[card], (unsigned)card);
        p->gang.seats[card] = &p->seats[card];
    }
}

static void set_up(const int *ranks, const uint32_t (*weights)[2], int count)
{
    fresh_arbiters();
    memset(container, 0, sizeof container);
    containers = count;
    now = kerf_now_ns();
    for (int i = 0; i < count; i++) {
        struct container *c = &container[i];
        c->ranks = ranks[i];
        c->done_at = now;
        memcpy(c->weight, weights[i], sizeof c->weight);
        kerf.tenant_id = 100 + (uint64_t)i;
        for (int r = 0; r < c->ranks; r++) {
            c->process[r].card = r;
            c->process[r].alive = true;
            kerf.pid = 10 * i + r + 1;
            seat(c, &c->process[r]);
        }
    }
}

static void tear_down(void)
{
    for (int i = 0; i < containers; i++)
        for (int r = 0; r < container[i].ranks; r++)
            for (int s = 0; s < container[i].ranks; s++)
                munmap(container[i].process[r].seats[s].head, KERF_NODE_ARBITER_BYTES);
}

static void run_rank(struct process *p, const struct process *peer, uint64_t part)
{
    p->spent += part;
    while (p->launched > p->over && p->spent >= KERNEL_NS) {
        if (peer && p->over % 2 && (peer->over < p->over || peer->launched <= p->over)) {
            p->spent = 0; /* a collective whose peer has not begun: this part was spent spinning */
            return;
        }
        p->spent -= KERNEL_NS;
        p->over++;
    }
    if (p->launched == p->over)
        p->spent = 0;
}

/* A card gives its time in equal parts to the ranks that have work on it, whether that gets on or spins. */
static void run_card(int card, uint64_t span)
{
    uint64_t busy = 0;
    for (int i = 0; i < containers; i++)
        busy += card < container[i].ranks && container[i].process[card].launched > container[i].process[card].over;
    for (int i = 0; i < containers && busy; i++) {
        struct container *c = &container[i];
        if (card < c->ranks && c->process[card].launched > c->process[card].over)
            run_rank(&c->process[card], c->ranks > 1 ? &c->process[!card] : NULL, span / busy);
    }
}

static void pass(uint64_t span)
{
    for (uint64_t step; span; span -= step, now += step) {
        step = span < KERNEL_NS ? span : KERNEL_NS;
        run_card(0, step);
        run_card(1, step);
    }
}

/* The first half of a look: what the process publishes before it sees the others. */
static void publish(const struct container *c, struct process *p)
{
    uint64_t in_flight = (p->launched - p->over) * KERNEL_NS;
    kerf_seat_charge(&p->seats[p->card], (p->over - p->charged) * KERNEL_NS, now);
    p->charged = p->over;
    p->pulse = kerf_rank_pulse(&p->rank, true, true, in_flight, p->launched);
    struct kerf_pulse elsewhere = { .want = p->rank.spans ? KERF_WANT_GANG : 0 };
    for (int s = 0; s < c->ranks; s++)
        kerf_seat_publish(&p->seats[s], s == p->card ? &p->pulse : &elsewhere, now);
}

/* The second half: it sees them, decides, and launches. */
static void decide(struct process *p)
{
    struct kerf_seat *own = &p->seats[p->card];
    struct kerf_peer peers[KERF_NODE_TENANTS];
    struct kerf_self self = { .now = now, .gang = p->rank.spans, .hungry = true, .held = p->held, .in_flight_ns = p->pulse.in_flight_ns, .launch_ns = KERNEL_NS };
    int others = kerf_seat_look(own, 0, &self, peers);
    uint64_t depth = kerf_decide_gate(&self, peers, others).depth_ns, quota = 0;
    p->held = depth == 0;
    depth = depth < AHEAD_NS ? depth : AHEAD_NS;
    if (p->rank.spans && kerf_gang_settle(&p->gang, own, &p->rank, &p->pulse, p->launched, now, &quota) == KERF_GANG_OUT)
        depth = 0;
    for (uint64_t ahead = p->pulse.in_flight_ns; ahead < depth || quota; ahead += KERNEL_NS, quota -= quota > 0)
        p->launched++;
}

/* Halves of looks interleave, as they do between processes. */
static void look(struct container *c, int r)
{
    struct process *p = &c->process[r];
    if (!p->alive)
        return;
    if (p->looking)
        decide(p);
    else
        publish(c, p);
    p->looking = !p->looking;
    if (c->process[0].over > c->done) {
        c->slowest = now - c->done_at > c->slowest ? now - c->done_at : c->slowest;
        c->done = c->process[0].over, c->done_at = now;
    }
}

static bool complete(const struct container *c)
{
    return c->process[0].alive && (c->ranks == 1 || c->process[1].alive);
}

static bool all_get_on(void)
{
    for (int i = 0; i < containers; i++)
        if (complete(&container[i]) && container[i].done_at + PATIENCE_NS < now)
            return false;
    return true;
}

static void pick_and_look(int choice)
{
    for (int i = 0;; i = (i + 1) % containers)
        for (int r = 0; r < container[i].ranks; r++)
            if (choice-- == 0) {
                look(&container[i], r);
                return;
            }
}

/* Looks in random order and at random times, now and then after a long pause; `kill_at` looks in, a rank dies. */
static bool plays_well(int looks, int kill_at)
{
    for (int i = 0; i < looks; i++) {
        pick_and_look(rand_r(&seed) % 6);
        pass((uint64_t)(rand_r(&seed) % (rand_r(&seed) % 50 ? 40 : 2000)) * US);
        if (i == kill_at)
            container[0].process[rand_r(&seed) % 2].alive = false;
        if (!all_get_on())
            return false;
    }
    return true;
}

static const int two_gangs[] = { 2, 2 }, gangs_and_one[] = { 2, 2, 1 }, one_gang[] = { 2 }, three_gangs[] = { 2, 2, 2 };
static const uint32_t even[][2] = { { 50, 50 }, { 50, 50 }, { 50, 50 } }, crossed[][2] = { { 30, 70 }, { 70, 30 }, { 20, 20 } };

static void random_orders(const int *ranks, const uint32_t (*weights)[2], int count, bool kill)
{
    for (seed = 1; seed <= ORDERS; seed++) {
        unsigned keep = seed;
        set_up(ranks, weights, count);
        CHECK(plays_well(LOOKS, kill ? 500 + rand_r(&seed) % 1000 : -1));
        tear_down();
        seed = keep;
    }
}

/* Every order of the first looks of four ranks, then each in turn. */
static void every_order_of_the_first_looks(void)
{
    for (int order = 0; order < 1 << 2 * FIRST; order++) {
        set_up(two_gangs, crossed, 2);
        for (int i = 0; i < FIRST; i++, pass(50 * US))
            pick_and_look(order >> 2 * i & 3);
        bool fine = true;
        for (int i = 0; i < 800 && fine; i++, pass(400 * US)) {
            pick_and_look(i % 4);
            fine = all_get_on();
        }
        if (!fine)
            CHECK(!"a container does not get on");
        tear_down();
    }
    CHECK(true);
}

/* Two gangs share what they share: neither gets much more than its weights say, and most of the time is used. */
static void turns_are_shared(void)
{
    static const uint32_t weights[][2] = { { 30, 30 }, { 70, 70 } };
    set_up(two_gangs, weights, 2);
    uint64_t from = now;
    for (int i = 0; now < from + 2000 * MS; i++, pass(20 * US))
        pick_and_look(i % 4);
    double part = (double)container[0].done / (double)(container[0].done + container[1].done);
    CHECK(part > 0.2 && part < 0.4);
    tear_down();
}

static uint64_t slot_of(int card)
{
    return __atomic_load_n(&container[0].process[0].seats[card].head->gang, __ATOMIC_ACQUIRE);
}

/* A container that has both cards has them until the same deadline, although one was free 8 ms before the other at first. */
static void the_turns_of_both_cards_end_together(void)
{
    set_up(two_gangs, even, 2);
    container[0].process[0].seats[1].head->gang = 2ull << 48 | (now + 8 * MS) / 1000;
    int turns = 0, apart = 0;
    uint64_t before = 0, from = now;
    for (int i = 0; now < from + 300 * MS; i++, pass(20 * US)) {
        pick_and_look(i % 4);
        if (slot_of(0) >> 48 != slot_of(1) >> 48 || slot_of(0) == before)
            continue;
        before = slot_of(0);
        turns++;
        apart += before != slot_of(1);
    }
    CHECK(turns > 10);
    CHECK(apart == 0);
    tear_down();
}

/* Out of turn, the rank that is 9 launches behind a spinning one makes up for these 9, whatever it has in flight itself, and no more. */
static void a_rank_follows_by_the_difference(void)
{
    set_up(two_gangs, even, 2);
    struct process *ahead = &container[0].process[0], *behind = &container[0].process[1], *other = &container[1].process[0];
    publish(&container[1], other);
    for (int card = 0; card < 2; card++)
        other->seats[card].head->gang = 2ull << 48 | (now + 15 * MS) / 1000;
    behind->rank.counted = ahead->rank.counted = true;
    ahead->launched = 12, behind->launched = behind->over = 3;
    uint64_t quota[3];
    for (int i = 0; i < 3; i++, now += 150 * US) {
        publish(&container[0], ahead);
        publish(&container[0], behind);
        CHECK(kerf_gang_settle(&behind->gang, &behind->seats[1], &behind->rank, &behind->pulse, behind->launched, now, &quota[i]) == KERF_GANG_OUT);
        behind->launched += quota[i] > 0;
    }
    CHECK(quota[0] == 0 && quota[1] == 9 && quota[2] == 8);
    behind->launched = 12;
    publish(&container[0], behind);
    (void)kerf_gang_settle(&behind->gang, &behind->seats[1], &behind->rank, &behind->pulse, behind->launched, now, quota);
    CHECK(quota[0] == 0);
    tear_down();
}

/* The ranks look each on its own; one look in `rare` comes late by up to `late_us`. 0: none does. */
static void play(uint64_t span, unsigned rare, unsigned late_us)
{
    uint64_t next[2 * CONTAINERS], until = now + span;
    int ranks = 0;
    for (int i = 0; i < containers; i++)
        for (int r = 0; r < container[i].ranks; r++)
            next[ranks++] = now + (uint64_t)(rand_r(&seed) % 100) * US;
    while (now < until) {
        int first = 0;
        for (int i = 1; i < ranks; i++)
            first = next[i] < next[first] ? i : first;
        if (next[first] > now)
            pass(next[first] - now);
        pick_and_look(first);
        if (container[first / 2].process[first % 2].looking) {
            next[first] = now + (1 + (unsigned)rand_r(&seed) % 8) * US;
            continue;
        }
        bool late = rare && !((unsigned)rand_r(&seed) % rare);
        next[first] = now + (late ? (unsigned)rand_r(&seed) % late_us : 20 + (unsigned)rand_r(&seed) % 60) * US;
    }
}

static uint64_t work_of(const int *ranks, int count, unsigned rare, uint64_t *slowest)
{
    uint64_t sum = 0;
    set_up(ranks, even, count);
    play(600 * MS, rare, 5000);
    *slowest = 0;
    for (int i = 0; i < count; i++) {
        sum += container[i].done;
        *slowest = container[i].slowest > *slowest ? container[i].slowest : *slowest;
    }
    tear_down();
    return sum;
}

/* What pairs of ranks do together, beside what one does alone, and the longest that any of them pauses. */
static void turns_cost_little(void)
{
    static const unsigned late[] = { 0, 500 };
    for (seed = 1; seed <= 2; seed++)
        for (int i = 0; i < 2; i++) {
            unsigned keep = seed;
            uint64_t slowest, alone = work_of(one_gang, 1, late[i], &slowest);
            CHECK(work_of(two_gangs, 2, late[i], &slowest) * 100 > alone * 90 && slowest < 30 * MS);
            CHECK(work_of(three_gangs, 3, late[i], &slowest) * 100 > alone * 85 && slowest < 70 * MS);
            seed = keep;
        }
}

/* The slots that killed processes have claimed delay no other gang: soon it has the cards as if alone. */
static void the_dead_take_no_turns(void)
{
    for (seed = 1; seed <= 3; seed++) {
        unsigned keep = seed;
        set_up(two_gangs, even, 2);
        play((uint64_t)(100 + 7 * seed) * MS, 0, 0);
        for (int r = 0; r < 2; r++) {
            struct process *p = &container[0].process[r];
            p->alive = false;
            p->over = p->launched; /* the driver ends their work, and nobody clears what they have published */
        }
        play(60 * MS, 0, 0);
        uint64_t before = container[1].done;
        play(300 * MS, 0, 0);
        CHECK((container[1].done - before) * KERNEL_NS * 100 > 300 * MS * 95);
        tear_down();
        seed = keep;
    }
}

/*
 * Work that never ends, because its peer is dead while its own rank lives, is waited for no longer than any other. It
 * spins on one card all the time and takes its turns, so half of a half is the most that is left.
 */
static void work_that_never_ends_is_not_waited_for(void)
{
    for (seed = 1; seed <= 3; seed++) {
        unsigned keep = seed;
        set_up(two_gangs, even, 2);
        play(100 * MS, 0, 0);
        container[0].process[1].alive = false;
        play(100 * MS, 0, 0);
        uint64_t before = container[1].done;
        container[1].slowest = 0;
        play(500 * MS, 0, 0);
        CHECK(container[0].process[0].launched > container[0].process[0].over);
        CHECK((container[1].done - before) * KERNEL_NS * 100 > 500 * MS * 15 && container[1].slowest < 80 * MS);
        tear_down();
        seed = keep;
    }
}

int main(void)
{
    kerf.ledger = &ledger;
    for (int card = 0; card < 2; card++) {
        strcpy(path[card], "/tmp/kerf-arbiter-XXXXXX");
        close(mkstemp(path[card]));
    }
    random_orders(one_gang, even, 1, false);
    random_orders(two_gangs, even, 2, false);
    random_orders(two_gangs, crossed, 2, false);
    random_orders(two_gangs, crossed, 2, true);
    random_orders(gangs_and_one, crossed, 3, false);
    random_orders(gangs_and_one, crossed, 3, true);
    random_orders(three_gangs, even, 3, false);
    every_order_of_the_first_looks();
    turns_are_shared();
    the_turns_of_both_cards_end_together();
    a_rank_follows_by_the_difference();
    turns_cost_little();
    the_dead_take_no_turns();
    work_that_never_ends_is_not_waited_for();
    unlink(path[0]);
    unlink(path[1]);
    FINISH();
}
