/* Changes to `charged` that are cut short at every possible place, finished by the process that finds them. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"
#include "ledger/ledger.h"

static struct kerf_ledger *ledger;

static void fresh(void)
{
    memset(ledger, 0, sizeof *ledger);
    ledger->header.card_count = 1;
}

static uint64_t sum_of_slots(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < KERF_SLOTS; i++)
        sum += ledger->slots[i].bytes[0];
    return sum;
}

static void moves_stop_at_the_limit(void)
{
    fresh();
    CHECK(kerf_slot_move(ledger, 0, 0, 60, 100));
    CHECK(!kerf_slot_move(ledger, 1, 0, 41, 100));
    CHECK(kerf_slot_move(ledger, 1, 0, 40, 100));
    CHECK(kerf_charged(ledger, 0) == 100 && ledger->slots[0].bytes[0] == 60 && ledger->slots[1].bytes[0] == 40);
    CHECK(kerf_slot_move(ledger, 0, 0, -60, 100));
    CHECK(kerf_charged(ledger, 0) == 40 && ledger->cards[0].peak == 100);
}

/* What kerf_slot_move stores, one store at a time; the change stops after `stores` of them. */
static void cut_short(unsigned slot, int64_t delta, int stores)
{
    struct kerf_slot *own = &ledger->slots[slot];
    unsigned seq = (own->seq % 8191u) + 1;
    uint64_t target = own->bytes[0] + (uint64_t)delta, word;
    if (stores-- > 0)
        own->seq = (uint16_t)seq;
    if (stores-- > 0)
        own->ack = 0;
    if (stores-- > 0)
        own->target = target;
    if (stores-- > 0)
        own->intent = (1ULL << 63) | seq;
    if (stores-- > 0) {
        word = ledger->cards[0].charged;
        unsigned last = (unsigned)(word >> 57);
        if (last)
            ledger->slots[last - 1].ack = (uint16_t)(word >> 44 & 8191);
        ledger->cards[0].charged = ((word + (uint64_t)delta) & KERF_CHARGED_MASK) | (uint64_t)(slot + 1) << 57 | (uint64_t)seq << 44;
    }
    if (stores-- > 0)
        own->bytes[0] = target;
    if (stores-- > 0)
        own->intent = 0;
}

static void every_cut_is_mended(int64_t delta, bool others_go_on)
{
    for (int stores = 0; stores <= 7; stores++) {
        fresh();
        CHECK(kerf_slot_move(ledger, 0, 0, 1000, KERF_UNLIMITED));
        CHECK(kerf_slot_move(ledger, 1, 0, 500, KERF_UNLIMITED));
        cut_short(0, delta, stores);
        if (others_go_on) {
            CHECK(kerf_slot_move(ledger, 1, 0, 7, KERF_UNLIMITED));
            CHECK(kerf_slot_move(ledger, 2, 0, 8, KERF_UNLIMITED));
            CHECK(kerf_slot_move(ledger, 1, 0, -7, KERF_UNLIMITED));
        }
        kerf_slot_recover(ledger, 0);
        CHECK(ledger->slots[0].intent == 0);
        CHECK(kerf_charged(ledger, 0) == sum_of_slots());
        kerf_slot_recover(ledger, 0); /* once more does no harm */
        CHECK(kerf_charged(ledger, 0) == sum_of_slots());
    }
}

static void *mover(void *arg)
{
    unsigned slot = (unsigned)(uintptr_t)arg, seed = slot + 1;
    uint64_t held = 0;
    for (int i = 0; i < 20000; i++) {
        int64_t delta = held && rand_r(&seed) % 2 ? -(int64_t)held : rand_r(&seed) % 100;
        if (kerf_slot_move(ledger, slot, 0, delta, 300))
            held += (uint64_t)delta;
        if (kerf_charged(ledger, 0) > 300)
            return (void *)1;
    }
    return ledger->slots[slot].bytes[0] == held ? NULL : (void *)1;
}

static void racing_slots_never_pass_the_limit(void)
{
    pthread_t threads[6];
    fresh();
    for (uintptr_t i = 0; i < 6; i++)
        pthread_create(&threads[i], NULL, mover, (void *)i);
    for (int i = 0; i < 6; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
    CHECK(kerf_charged(ledger, 0) == sum_of_slots());
}

int main(void)
{
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    moves_stop_at_the_limit();
    every_cut_is_mended(64, false);
    every_cut_is_mended(64, true);
    every_cut_is_mended(-64, false);
    every_cut_is_mended(-64, true);
    racing_slots_never_pass_the_limit();
    FINISH();
}
