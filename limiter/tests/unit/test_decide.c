/* The decisions, by themselves. tests/unit/test_shares.c plays them against a simulated card. */
#include "arbiter/decide.h"
#include "check.h"

#define MS 1000000ll
#define US 1000ll
#define NOW (1000ull * 1000000)

/* A container with half of the card and a bit of everything; tests change what they are about. */
static struct kerf_self a_self(void)
{
    return (struct kerf_self){ .now = NOW, .weight = 50, .vtime = 1000 * MS, .launch_ns = 100000, .balance_ns = 0 };
}

static struct kerf_peer a_peer(void)
{
    return (struct kerf_peer){ .weight = 50, .vtime = 1000 * MS, .moved_ns = NOW - MS, .active_ns = NOW };
}

static struct kerf_verdict decide(struct kerf_self self, struct kerf_peer peer)
{
    return kerf_decide_gate(&self, &peer, 1);
}

static void alone_nothing_waits(void)
{
    struct kerf_self self = a_self();
    self.balance_ns = -100 * MS;
    CHECK(kerf_decide_gate(&self, NULL, 0).depth_ns == KERF_NO_BOUND);
}

static void a_cap_is_its_account(void)
{
    struct kerf_self self = a_self();
    self.capped = true;
    CHECK(kerf_decide_gate(&self, NULL, 0).why == KERF_WHY_CAP);
    self.balance_ns = 5 * MS;
    CHECK(kerf_decide_gate(&self, NULL, 0).depth_ns == 5u * MS);
    self.in_flight_ns = 5 * MS;
    CHECK(kerf_decide_gate(&self, NULL, 0).depth_ns == 0);
    self.in_flight_ns = 0;
    self.balance_ns = MS / 10;
    self.held = true; /* opens again with a little more, so that it does not flutter */
    CHECK(kerf_decide_gate(&self, NULL, 0).depth_ns == 0);
}

/* The others cannot see what it has in flight, so a whole queue of it could be beyond what the account allows. */
static void who_has_no_seat_goes_one_launch_at_a_time_within_the_account(void)
{
    struct kerf_self self = a_self();
    self.capped = self.unseen = true;
    self.balance_ns = 500 * MS;
    CHECK(kerf_decide_gate(&self, NULL, 0).depth_ns == 1);
    CHECK(kerf_decide_rest(&self, 0, 1).pause_ns == KERF_LOOK_NS);
    self.balance_ns = -1;
    CHECK(kerf_decide_gate(&self, NULL, 0).why == KERF_WHY_CAP);
    self.capped = false; /* a weight: the same, beside others and alone */
    CHECK(kerf_decide_gate(&self, NULL, 0).depth_ns == 1 && decide(self, a_peer()).depth_ns == 1);
}

static void who_has_no_account_waits_for_one(void)
{
    struct kerf_self self = a_self();
    self.outside = self.unseen = true;
    self.balance_ns = 500 * MS;
    CHECK(kerf_decide_gate(&self, NULL, 0).why == KERF_WHY_SEAT && kerf_decide_gate(&self, NULL, 0).depth_ns == 0);
}

static void beside_others_the_queue_is_short(void)
{
    CHECK(decide(a_self(), a_peer()).depth_ns == KERF_DEPTH_NS);
}

static void only_who_is_ahead_of_a_hungry_one_waits(void)
{
    struct kerf_self self = a_self();
    struct kerf_peer peer = a_peer();
    peer.hungry = self.hungry = true;
    self.vtime = 2000 * MS;
    CHECK(decide(self, peer).why == KERF_WHY_AHEAD);
    self.hungry = false; /* under its share, and asks for little: it does not wait */
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
    self.balance_ns = -MS;
    CHECK(decide(self, peer).why == KERF_WHY_AHEAD);
    self.vtime = 1000 * MS + 70 * MS; /* a little ahead: 3.5 ms of its weight */
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
    self.held = true; /* but once it waits, it waits until they are level */
    CHECK(decide(self, peer).why == KERF_WHY_AHEAD);
    self.vtime = 900 * MS;
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
}

static void a_step_is_not_disturbed_by_one_over_its_share(void)
{
    struct kerf_self self = a_self();
    struct kerf_peer peer = a_peer();
    peer.in_flight_ns = 100000;
    peer.balance_ns = MS;
    peer.synced_ns = NOW - MS;
    peer.step_ns = 4 * MS;
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS); /* within its share */
    self.balance_ns = -MS;
    CHECK(decide(self, peer).depth_ns == 4u * MS * 8 / 10 - MS - 100000); /* what ends before the step does */
    peer.synced_ns = NOW - 3500000;
    CHECK(decide(self, peer).why == KERF_WHY_STEP);
    peer.synced_ns = NOW - MS;
    peer.blocked = true;
    CHECK(decide(self, peer).depth_ns == 0);
    peer.blocked = false;
    self.launch_ns = 50 * MS; /* longer than the step: only at its beginning */
    CHECK(decide(self, peer).depth_ns == 0);
    peer.synced_ns = NOW - MS / 10;
    CHECK(decide(self, peer).depth_ns == 1);
    peer.balance_ns = -MS; /* two over their shares do not protect each other's steps */
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
}

static void between_requests_there_is_no_step(void)
{
    struct kerf_self self = a_self();
    struct kerf_peer peer = a_peer();
    self.balance_ns = -MS;
    peer.active_ns = NOW - 10 * MS;
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
    peer.active_ns = NOW;
    peer.in_flight_ns = 1000; /* no step known: one launch whenever the card is free of the other's work */
    CHECK(decide(self, peer).depth_ns == 0);
    peer.in_flight_ns = 0;
    CHECK(decide(self, peer).depth_ns == 1);
}

static void priority_goes_first(void)
{
    struct kerf_self low = a_self(), high = a_self();
    struct kerf_peer other = a_peer();
    low.priority = 1;
    other.hungry = true;
    low.vtime = 0;
    CHECK(decide(low, other).why == KERF_WHY_PRIORITY);
    other.hungry = false;
    other.blocked = true;
    low.balance_ns = 100 * MS;
    CHECK(decide(low, other).depth_ns == 0);
    other.priority = 1;
    other.hungry = true;
    high.vtime = 9000 * MS;
    high.hungry = true;
    CHECK(decide(high, other).depth_ns == KERF_DEPTH_NS);
}

static void one_without_progress_is_not_waited_for(void)
{
    struct kerf_self self = a_self();
    struct kerf_peer peer = a_peer();
    self.hungry = peer.hungry = true;
    self.vtime = 2000 * MS;
    peer.moved_ns = NOW - KERF_STALL_NS - 1;
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
    self.priority = 1;
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
}

static void gangs_are_ordered_by_their_slot_alone(void)
{
    struct kerf_self self = a_self();
    struct kerf_peer peer = a_peer();
    self.hungry = peer.hungry = self.gang = peer.gang = true;
    self.vtime = 9000 * MS;
    CHECK(decide(self, peer).depth_ns == KERF_DEPTH_NS);
}

static void what_is_charged_is_what_was_used_within_its_time_and_never_negative(void)
{
    struct kerf_counted found = kerf_decide_counted(3 * MS, 5 * MS, 9 * MS);
    CHECK(found.counted == 3 * MS && found.room == 2 * MS);
    found = kerf_decide_counted(3 * MS, 5 * MS, 1 * MS); /* a stream beside it was charged for the rest */
    CHECK(found.counted == 1 * MS && found.room == 0);
    for (double measured = -5; measured <= 5; measured += 0.5)
        for (double room = -5; room <= 5; room += 0.5) {
            found = kerf_decide_counted(2, measured, room);
            CHECK(found.counted >= 0 && found.counted <= 2 && found.room >= 0);
        }
}

/* Alone, with so much credit. */
static struct kerf_rest rest(int64_t balance, uint64_t in_flight, uint32_t processes, int streams)
{
    struct kerf_self self = a_self();
    self.capped = true;
    self.balance_ns = balance;
    self.in_flight_ns = in_flight;
    self.processes = processes;
    return kerf_decide_rest(&self, 0, streams);
}

static bool looks(struct kerf_rest rest)
{
    return rest.pause_ns == KERF_LOOK_NS && rest.part_ns == KERF_NO_BOUND;
}

static void who_has_neighbours_looks_often(void)
{
    struct kerf_self self = a_self();
    self.balance_ns = 500 * MS;
    CHECK(looks(kerf_decide_rest(&self, 1, 1)));
    self.gang = true;
    CHECK(looks(kerf_decide_rest(&self, 0, 1)));
}

static void alone_without_a_cap_nothing_depends_on_looks(void)
{
    struct kerf_self self = a_self();
    self.balance_ns = -100 * MS;
    struct kerf_rest found = kerf_decide_rest(&self, 0, 3);
    CHECK(found.pause_ns == KERF_REST_NS && found.part_ns == KERF_NO_BOUND);
}

static void alone_under_a_cap_the_credit_says_how_long_to_rest(void)
{
    struct kerf_rest found = rest(500 * MS, 20 * MS, 1, 1);
    CHECK(found.pause_ns == KERF_REST_NS && found.part_ns == 240u * MS);
    found = rest(8 * MS, 0, 2, 2); /* two processes of two streams each */
    CHECK(found.pause_ns == 1u * MS && found.part_ns == 1u * MS);
    CHECK(looks(rest(400 * US, 0, 1, 1)));
    CHECK(looks(rest(20 * MS, 20 * MS, 1, 1)));
    CHECK(looks(rest(20 * MS, 30 * MS, 1, 1)));
    CHECK(looks(rest(-5 * MS, 0, 1, 1)));
}

/* Every process spends the card's whole time until its next look, or every stream submits all it may: credit is left. */
static void no_rest_is_long_enough_to_use_up_the_credit(void)
{
    for (int64_t balance = -MS; balance < 600 * MS; balance += 777 * US)
        for (uint64_t in_flight = 0; in_flight < 100u * MS; in_flight += 33 * MS)
            for (uint32_t processes = 1; processes < 20; processes += 3)
                for (int streams = 1; streams < 300; streams *= 4) {
                    struct kerf_rest found = rest(balance, in_flight, processes, streams);
                    int64_t left = balance - (int64_t)in_flight, several = (int64_t)processes;
                    CHECK(found.pause_ns >= KERF_LOOK_NS && found.pause_ns <= KERF_REST_NS);
                    CHECK(looks(found) || several * (int64_t)found.pause_ns <= left / 4);
                    CHECK(looks(found) || several * streams * (int64_t)found.part_ns <= left / 2);
                }
}

static struct kerf_hunger hunger(struct kerf_wish wish)
{
    wish.now = NOW;
    return kerf_decide_hunger(&wish);
}

static void who_begins_a_step_wants_the_card_and_is_not_kept_waiting(void)
{
    struct kerf_hunger found = hunger((struct kerf_wish){ .entering = 1 });
    CHECK(found.wants && !found.hungry);
    found = hunger((struct kerf_wish){ .entering = 3, .in_flight_ns = 100 * US }); /* the step goes on, in three threads */
    CHECK(found.wants && !found.hungry);
}

static void who_is_held_back_is_kept_waiting_and_for_a_moment_longer(void)
{
    struct kerf_wish wish = { .now = NOW, .waiting = 1 };
    struct kerf_hunger held = kerf_decide_hunger(&wish);
    CHECK(held.wants && held.hungry);
    wish = (struct kerf_wish){ .now = NOW + MS, .entering = 1, .hungry_until = held.hungry_until };
    CHECK(kerf_decide_hunger(&wish).hungry);
    wish.now = NOW + 2 * MS;
    CHECK(!kerf_decide_hunger(&wish).hungry);
}

static void its_own_cap_keeps_nobody_hungry(void)
{
    struct kerf_hunger found = hunger((struct kerf_wish){ .waiting = 1, .capped = true });
    CHECK(found.wants && !found.hungry);
}

static void who_idles_wants_nothing(void)
{
    struct kerf_hunger found = hunger((struct kerf_wish){ .hungry_until = NOW - 1 });
    CHECK(!found.wants && !found.hungry);
}

static void who_launches_without_pause_has_a_long_queue_and_is_hungry(void)
{
    CHECK(hunger((struct kerf_wish){ .in_flight_ns = KERF_HUNGRY_NS }).hungry);
    CHECK(!hunger((struct kerf_wish){ .in_flight_ns = KERF_HUNGRY_NS - 1 }).hungry);
}

/* Every wish there is: asking whether one may launch changes nothing about being kept from it. */
static void to_ask_is_never_to_be_kept_waiting(void)
{
    static const uint64_t in_flight[] = { 0, 1, KERF_HUNGRY_NS - 1, KERF_HUNGRY_NS, 64 * MS }, until[] = { 0, NOW - 1, NOW, NOW + 1, NOW + 2 * MS };
    for (int i = 0; i < 5 * 5 * 2 * 2 * 4; i++) {
        struct kerf_wish quiet = { .in_flight_ns = in_flight[i % 5], .hungry_until = until[i / 5 % 5], .waiting = i / 25 % 2, .capped = i / 50 % 2 };
        struct kerf_wish asks = quiet;
        asks.entering = i / 100;
        struct kerf_hunger before = hunger(quiet), after = hunger(asks);
        CHECK(before.hungry == after.hungry && before.hungry_until == after.hungry_until && after.wants == (before.wants || asks.entering));
    }
}

static void accounts_grow_by_the_share_and_are_bounded(void)
{
    CHECK(kerf_decide_refill(0, 100 * MS, 300, 1000 * MS, -100 * MS) == 30 * MS);
    CHECK(kerf_decide_refill(-50 * MS, 100 * MS, 300, 1000 * MS, -100 * MS) == -20 * MS);
    CHECK(kerf_decide_refill(290 * MS, 100 * MS, 300, 300 * MS, -100 * MS) == 300 * MS);
    CHECK(kerf_decide_refill(-900 * MS, 0, 300, 300 * MS, -100 * MS) == -100 * MS);
    CHECK(kerf_decide_refill(400 * MS, 0, 300, 300 * MS, -100 * MS) == 400 * MS); /* a smaller bound takes nothing away */
}

static void a_claim_is_bounded(void)
{
    CHECK(kerf_decide_claim(5000, 4000, 50) == 5000);
    CHECK(kerf_decide_claim(0, 10000 * MS, 50) == 10000u * MS - 30u * MS * KERF_UNIT / 50);
    CHECK(kerf_decide_claim(0, 10, 50) == 0);
}

static void costs_follow_the_lower_end(void)
{
    CHECK(kerf_decide_cost(0, 500, true) == 500);
    CHECK(kerf_decide_cost(400, 0, true) == 400);
    CHECK(kerf_decide_cost(400, 800, false) == 400); /* the host set that pace */
    uint64_t cost = 32 * MS;
    for (int i = 0; i < 40; i++)
        cost = kerf_decide_cost(cost, i % 3 ? MS : 3 * MS, true); /* a neighbour lengthens every third sample */
    CHECK(cost > MS * 95 / 100 && cost < MS * 110 / 100);
    for (int i = 0; i < 400; i++)
        cost = kerf_decide_cost(cost, 2 * MS, true);
    CHECK(cost > MS * 18 / 10 && cost <= 2 * MS); /* and it follows work that grows */
}

/* Of a kernel of `ns`: the card has read the event in front, then the host launches for `host` us; `late` us of it after it submitted. */
static struct kerf_sample from_rest(uint64_t ns, uint64_t host, uint64_t late, uint64_t usual)
{
    return kerf_decide_from_rest(&(struct kerf_rested){ ns + (host - late) * US, host * US, usual * US });
}

static void the_hosts_part_of_a_launch_from_rest_is_taken_off(void)
{
    CHECK(from_rest(5 * US, 6, 0, 6).ns == 5500); /* but for what the times of events may hide */
    CHECK(from_rest(5 * US, 6, 0, 6).trusted);
    CHECK(from_rest(5 * US, 6, 0, 5).ns == 6500); /* no more than is usual */
}

static void a_launch_that_the_card_was_not_seen_to_wait_for_keeps_its_whole_time(void)
{
    struct kerf_rested unseen = { .measured_ns = 12 * US, .usual_ns = 6 * US }, first = { .measured_ns = 12 * US, .host_ns = 6 * US };
    CHECK(kerf_decide_from_rest(&unseen).ns == 12u * US && !kerf_decide_from_rest(&unseen).trusted);
    CHECK(kerf_decide_from_rest(&first).ns == 12u * US && !kerf_decide_from_rest(&first).trusted);
}

static void a_thread_that_is_stopped_after_it_submitted_makes_nothing_cheaper(void)
{
    for (uint64_t late = 1; late < 5000; late *= 3) {
        CHECK(from_rest(20 * US, 6 + late, late, 6).ns >= 20u * US);
        CHECK(from_rest(20 * US, 6 + late, 0, 6).ns >= 20u * US); /* nor before */
    }
    CHECK(!from_rest(20 * US, 600, 0, 6).trusted);
}

/* Whatever the host did: so much of the measured time is left, and no more is taken than a launch call takes. */
static void what_is_taken_off_is_bounded(void)
{
    for (uint64_t measured = 0; measured < 200u * US; measured += 777)
        for (uint64_t host = 0; host < 300u * US; host = host * 2 + 100)
            for (uint64_t usual = 0; usual < 300u * US; usual = usual * 2 + 100) {
                uint64_t found = kerf_decide_from_rest(&(struct kerf_rested){ measured, host, usual }).ns;
                CHECK(found >= measured / 4 && found <= measured);
                CHECK(measured - found < 8u * US && measured - found <= host && measured - found <= usual);
            }
}

static void what_is_usual_is_the_least_and_forgets_slowly(void)
{
    uint64_t usual = kerf_decide_usual(0, 900 * US);
    CHECK(usual == 900u * US);
    usual = kerf_decide_usual(usual, 6 * US);
    CHECK(usual == 6u * US);
    CHECK(kerf_decide_usual(usual, 900 * US) < 6200);
    for (int i = 0; i < 100; i++)
        usual = kerf_decide_usual(usual, 9 * US);
    CHECK(usual == 9u * US);
}

#define KERNELS 40

/* A step from rest: what its kernels are believed to cost, and which of them are measured on the way. */
static void run_step(struct kerf_sampler *sampler, uint64_t cost[KERNELS])
{
    uint64_t submitted = 0, due = kerf_decide_stretch(sampler, false, KERF_MARK_NS, 0);
    for (int i = 0; i < KERNELS; i++) {
        bool alone = sampler->next || i == 0;
        submitted += cost[i];
        if (alone)
            cost[i] = kerf_decide_cost(cost[i], 12 * US, true);
        if (submitted >= due || alone)
            due = submitted + kerf_decide_stretch(sampler, submitted >= due, KERF_MARK_NS, 0);
    }
    sampler->next = false; /* the step's last marker */
}

static void every_kernel_of_a_repeated_step_is_sampled(void)
{
    struct kerf_sampler sampler = { 0 };
    uint64_t cost[KERNELS], sum = 0;
    for (int i = 0; i < KERNELS; i++)
        cost[i] = 300 * US; /* first seen beside a neighbour's slices */
    for (int step = 0; step < 1600; step++)
        run_step(&sampler, cost);
    for (int i = 0; i < KERNELS; i++)
        sum += cost[i];
    CHECK(sum < KERNELS * 15 * US);
}

static void stretches_are_half_a_millisecond_on_average_and_cover_a_long_queue(void)
{
    struct kerf_sampler sampler = { 0 };
    uint64_t sum = 0;
    for (int i = 0; i < 1000; i++)
        sum += kerf_decide_stretch(&sampler, false, KERF_MARK_NS, 0);
    CHECK(sum > 450 * MS && sum < 550 * MS);
    CHECK(kerf_decide_stretch(&sampler, true, KERF_MARK_NS, 0) == 1);
    CHECK(kerf_decide_stretch(&sampler, true, KERF_MARK_NS, 0) > 1); /* never two samples in a row */
    CHECK(kerf_decide_stretch(&sampler, true, KERF_MARK_NS, 4 * MS) == 4 * MS && !sampler.next);
}

static void the_scale_finds_nvmls_figure(void)
{
    uint32_t scale = 1000;
    for (int i = 0; i < 40; i++)
        scale = kerf_decide_scale(scale, scale * 900 / 1000, 450);
    CHECK(scale > 480 && scale < 530);
    CHECK(kerf_decide_scale(1000, 50, 10) == 1000);   /* too little to compare */
    CHECK(kerf_decide_scale(1000, 300, 310) == 1000); /* NVML is no finer */
    CHECK(kerf_decide_scale(1000, 300, 0) == 1000);
    CHECK(kerf_decide_scale(1490, 200, 1000) == 1500);
}

static void steps_follow_the_usual(void)
{
    uint64_t step = kerf_decide_step(0, 4 * MS);
    CHECK(step == 4u * MS);
    step = kerf_decide_step(step, 500 * MS); /* a pause between requests */
    CHECK(step <= 4u * MS * 9 / 8);
    for (int i = 0; i < 30; i++)
        step = kerf_decide_step(step, 2 * MS);
    CHECK(step < 2u * MS * 11 / 10);
}

static void what_nobody_asked_for_goes_to_those_without_a_share(void)
{
    CHECK(kerf_decide_weight(30, 70) == 30);
    CHECK(kerf_decide_weight(0, 70) == 30);
    CHECK(kerf_decide_weight(0, 100) == 1);
    CHECK(kerf_decide_weight(0, 0) == 100);
}

static void the_slot_goes_to_the_least_served(void)
{
    struct kerf_candidate some[] = { { 3, 0, 50 }, { 1, 0, 20 }, { 2, 0, 20 }, { 0, 1, 0 } };
    CHECK(kerf_decide_next(some, 0) == -1);
    CHECK(kerf_decide_next(some, 1) == 0);
    CHECK(kerf_decide_next(some, 4) == 1); /* lowest vtime among the high priority, then lowest index */
    CHECK(kerf_decide_lease(30 * MS, 30, 100) == 9u * MS);
    CHECK(kerf_decide_lease(30 * MS, 1, 100) == 5u * MS); /* never shorter */
}

int main(void)
{
    alone_nothing_waits();
    a_cap_is_its_account();
    who_has_no_seat_goes_one_launch_at_a_time_within_the_account();
    who_has_no_account_waits_for_one();
    beside_others_the_queue_is_short();
    only_who_is_ahead_of_a_hungry_one_waits();
    a_step_is_not_disturbed_by_one_over_its_share();
    between_requests_there_is_no_step();
    priority_goes_first();
    one_without_progress_is_not_waited_for();
    gangs_are_ordered_by_their_slot_alone();
    what_is_charged_is_what_was_used_within_its_time_and_never_negative();
    who_has_neighbours_looks_often();
    alone_without_a_cap_nothing_depends_on_looks();
    alone_under_a_cap_the_credit_says_how_long_to_rest();
    no_rest_is_long_enough_to_use_up_the_credit();
    who_begins_a_step_wants_the_card_and_is_not_kept_waiting();
    who_is_held_back_is_kept_waiting_and_for_a_moment_longer();
    its_own_cap_keeps_nobody_hungry();
    who_idles_wants_nothing();
    who_launches_without_pause_has_a_long_queue_and_is_hungry();
    to_ask_is_never_to_be_kept_waiting();
    accounts_grow_by_the_share_and_are_bounded();
    a_claim_is_bounded();
    costs_follow_the_lower_end();
    the_hosts_part_of_a_launch_from_rest_is_taken_off();
    a_launch_that_the_card_was_not_seen_to_wait_for_keeps_its_whole_time();
    a_thread_that_is_stopped_after_it_submitted_makes_nothing_cheaper();
    what_is_taken_off_is_bounded();
    what_is_usual_is_the_least_and_forgets_slowly();
    every_kernel_of_a_repeated_step_is_sampled();
    stretches_are_half_a_millisecond_on_average_and_cover_a_long_queue();
    the_scale_finds_nvmls_figure();
    steps_follow_the_usual();
    what_nobody_asked_for_goes_to_those_without_a_share();
    the_slot_goes_to_the_least_served();
    FINISH();
}
