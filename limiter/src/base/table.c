/* A hash from driver pointers to what was charged for them: flat from ten to a million entries. */
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"

#define FIRST_ROOM 64

static uint64_t mix(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15ULL;
    return key ^ (key >> 32);
}

static struct kerf_shard *shard_of(struct kerf_table *table, uint64_t hash)
{
    return &table->shards[hash % KERF_TABLE_SHARDS];
}

static uint64_t home_of(const struct kerf_shard *shard, uint64_t hash)
{
    return (hash / KERF_TABLE_SHARDS) & (shard->room - 1);
}

void kerf_table_init(struct kerf_table *table)
{
    for (int i = 0; i < KERF_TABLE_SHARDS; i++) {
        struct kerf_shard *shard = &table->shards[i];
        if (shard->rows)
            munmap(shard->rows, shard->room * sizeof *shard->rows);
        memset(shard, 0, sizeof *shard);
        pthread_mutex_init(&shard->lock, NULL);
    }
}

/* The row of `key`, or the free row where it would go. pre: room > used. */
static struct kerf_entry *seek(struct kerf_shard *shard, uint64_t key, uint64_t hash)
{
    uint64_t at = home_of(shard, hash);
    while (shard->rows[at].key && shard->rows[at].key != key)
        at = (at + 1) & (shard->room - 1);
    return &shard->rows[at];
}

static bool grow(struct kerf_shard *shard)
{
    struct kerf_shard bigger = { .room = shard->room ? shard->room * 2 : FIRST_ROOM };
    /* mmap, not malloc: the application's allocator may itself be hooked or be calling us. */
    bigger.rows = mmap(NULL, bigger.room * sizeof *bigger.rows, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bigger.rows == MAP_FAILED)
        return false;
    for (uint64_t i = 0; i < shard->room; i++)
        if (shard->rows[i].key)
            *seek(&bigger, shard->rows[i].key, mix(shard->rows[i].key)) = shard->rows[i];
    if (shard->rows)
        munmap(shard->rows, shard->room * sizeof *shard->rows);
    shard->rows = bigger.rows;
    shard->room = bigger.room;
    return true;
}

/* Closes the gap that a removed row leaves, so that look-ups never need tombstones. */
static void close_gap(struct kerf_shard *shard, uint64_t gap)
{
    uint64_t mask = shard->room - 1;
    for (uint64_t at = (gap + 1) & mask; shard->rows[at].key; at = (at + 1) & mask) {
        uint64_t home = home_of(shard, mix(shard->rows[at].key));
        if (((at - home) & mask) < ((at - gap) & mask))
            continue;
        shard->rows[gap] = shard->rows[at];
        gap = at;
    }
    shard->rows[gap].key = 0;
}

bool kerf_table_put(struct kerf_table *table, const struct kerf_entry *entry)
{
    uint64_t hash = mix(entry->key);
    struct kerf_shard *shard = shard_of(table, hash);
    pthread_mutex_lock(&shard->lock);
    bool ok = entry->key != 0 && ((shard->used + 1) * 4 <= shard->room * 3 || grow(shard));
    if (ok) {
        struct kerf_entry *row = seek(shard, entry->key, hash);
        shard->used += row->key == 0;
        *row = *entry;
    }
    pthread_mutex_unlock(&shard->lock);
    return ok;
}

bool kerf_table_find(struct kerf_table *table, uint64_t key, struct kerf_entry *out)
{
    uint64_t hash = mix(key);
    struct kerf_shard *shard = shard_of(table, hash);
    pthread_mutex_lock(&shard->lock);
    struct kerf_entry *row = shard->room && key ? seek(shard, key, hash) : NULL;
    bool found = row && row->key;
    if (found)
        *out = *row;
    pthread_mutex_unlock(&shard->lock);
    return found;
}

bool kerf_table_take(struct kerf_table *table, uint64_t key, struct kerf_entry *out)
{
    uint64_t hash = mix(key);
    struct kerf_shard *shard = shard_of(table, hash);
    pthread_mutex_lock(&shard->lock);
    struct kerf_entry *row = shard->room && key ? seek(shard, key, hash) : NULL;
    bool found = row && row->key;
    if (found) {
        *out = *row;
        close_gap(shard, (uint64_t)(row - shard->rows));
        shard->used--;
    }
    pthread_mutex_unlock(&shard->lock);
    return found;
}

/* Hands every entry of one object to `gone` and forgets it. */
void kerf_table_purge(struct kerf_table *table, const void *object, void (*gone)(const struct kerf_entry *))
{
    for (int i = 0; i < KERF_TABLE_SHARDS; i++) {
        struct kerf_shard *shard = &table->shards[i];
        pthread_mutex_lock(&shard->lock);
        for (uint64_t at = 0; at < shard->room;) {
            struct kerf_entry entry = shard->rows[at];
            if (!entry.key || entry.object != object) {
                at++;
                continue;
            }
            close_gap(shard, at); /* another row may have moved here: look again */
            shard->used--;
            gone(&entry);
        }
        pthread_mutex_unlock(&shard->lock);
    }
}
