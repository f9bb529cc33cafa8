/* The table against a plain array, over many random puts and takes; and from several threads. */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "base/base.h"

#define KEYS 4096
#define STEPS 400000

static struct kerf_table table;

static void agrees_with_an_array(void)
{
    static uint64_t model[KEYS];
    unsigned seed = 7;
    kerf_table_init(&table);
    for (int i = 0; i < STEPS; i++) {
        unsigned at = (unsigned)rand_r(&seed) % KEYS;
        uint64_t key = 0x7f0000000000ull + at * 512ull;
        struct kerf_entry entry = { .key = key, .bytes = (uint64_t)i + 1 }, found;
        bool had = model[at] != 0;
        if (rand_r(&seed) % 2) {
            CHECK(kerf_table_put(&table, &entry));
            model[at] = entry.bytes;
        } else {
            CHECK(kerf_table_take(&table, key, &found) == had);
            CHECK(!had || found.bytes == model[at]);
            model[at] = 0;
        }
    }
    for (unsigned at = 0; at < KEYS; at++) {
        struct kerf_entry found;
        bool there = kerf_table_find(&table, 0x7f0000000000ull + at * 512ull, &found);
        CHECK(there == (model[at] != 0) && (!there || found.bytes == model[at]));
    }
}

static void nothing_is_found_under_zero(void)
{
    struct kerf_entry entry = { .key = 0 };
    CHECK(!kerf_table_put(&table, &entry));
    CHECK(!kerf_table_find(&table, 0, &entry));
    CHECK(!kerf_table_take(&table, 0, &entry));
}

static uint64_t purged;

static void note_purged(const struct kerf_entry *entry)
{
    purged += entry->bytes;
}

static void purging_takes_one_object_only(void)
{
    int mine, other;
    kerf_table_init(&table);
    for (uint64_t i = 1; i <= 1000; i++) {
        struct kerf_entry entry = { .key = i * 64, .bytes = i, .object = i % 2 ? (void *)&mine : (void *)&other };
        CHECK(kerf_table_put(&table, &entry));
    }
    purged = 0;
    kerf_table_purge(&table, &mine, note_purged);
    CHECK(purged == 250000); /* 1 + 3 + ... + 999 */
    for (uint64_t i = 1; i <= 1000; i++) {
        struct kerf_entry entry;
        CHECK(kerf_table_find(&table, i * 64, &entry) == (i % 2 == 0));
    }
}

static void *worker(void *arg)
{
    uint64_t base = (uint64_t)(uintptr_t)arg << 32;
    long bad = 0;
    for (int round = 0; round < 20; round++) {
        for (uint64_t i = 1; i <= 500; i++) {
            struct kerf_entry entry = { .key = base + i * 256, .bytes = i };
            bad += !kerf_table_put(&table, &entry);
        }
        for (uint64_t i = 1; i <= 500; i++) {
            struct kerf_entry entry;
            bad += !kerf_table_take(&table, base + i * 256, &entry) || entry.bytes != i;
        }
    }
    return (void *)bad;
}

static void threads_do_not_disturb_each_other(void)
{
    pthread_t threads[4];
    kerf_table_init(&table);
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, worker, (void *)(i + 1));
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        CHECK(bad == NULL);
    }
}

int main(void)
{
    agrees_with_an_array();
    nothing_is_found_under_zero();
    purging_takes_one_object_only();
    threads_do_not_disturb_each_other();
    FINISH();
}
