/*
 * The ledger file: mapping it, living in a slot of it, and changing what is charged.
 *
 * Invariants, at every instant and no matter which process is killed:
 *   charged(card) = sum of bytes[card] over all slots, but for changes under way;
 *   a change under way is described by its slot's intent, so a process that finds the slot's owner dead
 *   can see whether the change took effect, and finishes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ledger/ledger.h"

#define SEQ_BITS 13
#define SEQ_MASK ((1u << SEQ_BITS) - 1)
#define INTENT_SET (1ULL << 63)
#define LOCK_TRIES 400 /* x 5 ms: how long to wait for another process that is initialising the file */

static const char *check(const struct kerf_ledger *ledger)
{
    const struct kerf_header *header = &ledger->header;
    if (header->magic != KERF_LEDGER_MAGIC)
        return "is no ledger";
    if (header->abi != KERF_LEDGER_ABI)
        return "was made for another version of libkerf";
    if (header->bytes != KERF_LEDGER_BYTES || header->slot_count != KERF_SLOTS || header->card_count > KERF_CARDS_MAX)
        return "is damaged";
    return NULL;
}

static bool lock_file(int fd)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
    return false;
}

/* The first process makes the slot mutexes; the kernel drops the file lock if it dies on the way. */
static bool make_ready(struct kerf_ledger *ledger, int fd)
{
    if (__atomic_load_n(&ledger->header.ready, __ATOMIC_ACQUIRE))
        return true;
    if (!lock_file(fd))
        return false;
    if (!__atomic_load_n(&ledger->header.ready, __ATOMIC_ACQUIRE)) {
        pthread_mutexattr_t robust;
        pthread_mutexattr_init(&robust);
        pthread_mutexattr_setrobust(&robust, PTHREAD_MUTEX_ROBUST);
        pthread_mutexattr_setpshared(&robust, PTHREAD_PROCESS_SHARED);
        for (unsigned i = 0; i < KERF_SLOTS; i++)
            pthread_mutex_init(&ledger->slots[i].life.mutex, &robust);
        pthread_mutexattr_destroy(&robust);
        __atomic_store_n(&ledger->header.ready, 1, __ATOMIC_RELEASE);
    }
    flock(fd, LOCK_UN);
    return true;
}

/* Distinguishes this container from others that share a card. */
static uint64_t identity(const struct statx *st, uint64_t generation)
{
    uint64_t id = (st->stx_ino * 0x9e3779b97f4a7c15ULL) ^ ((uint64_t)st->stx_dev_major << 52) ^ ((uint64_t)st->stx_dev_minor << 40) ^ generation;
    return id ? id : 1;
}

struct kerf_ledger *kerf_ledger_map(const char *path, const char **why)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        *why = "cannot be opened for reading and writing";
        return NULL;
    }
    struct statx st;
    struct kerf_ledger *ledger = NULL;
    *why = "has not the size of a ledger";
    /* statx, not fstat: the latter's symbol is newer than the C libraries we must load on. */
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) == 0 && st.stx_size == KERF_LEDGER_BYTES) {
        ledger = mmap(NULL, KERF_LEDGER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        *why = ledger == MAP_FAILED ? "cannot be mapped" : check(ledger);
        if (!*why && !make_ready(ledger, fd))
            *why = "is locked by another process";
        if (*why && ledger != MAP_FAILED)
            munmap(ledger, KERF_LEDGER_BYTES);
        if (*why)
            ledger = NULL;
        else
            kerf.tenant_id = identity(&st, ledger->header.generation);
    }
    close(fd);
    return ledger;
}

uint64_t kerf_charged(const struct kerf_ledger *ledger, unsigned card)
{
    return __atomic_load_n(&ledger->cards[card].charged, __ATOMIC_RELAXED) & KERF_CHARGED_MASK;
}

static uint64_t tag_of(unsigned slot, unsigned seq)
{
    return ((uint64_t)(slot + 1) << (KERF_CHARGED_BITS + SEQ_BITS)) | ((uint64_t)seq << KERF_CHARGED_BITS);
}

/* Before the last change's tag is overwritten, its slot gets the acknowledgement that the change took effect. */
static void acknowledge(struct kerf_ledger *ledger, uint64_t word)
{
    unsigned slot = (unsigned)(word >> (KERF_CHARGED_BITS + SEQ_BITS));
    unsigned seq = (unsigned)(word >> KERF_CHARGED_BITS) & SEQ_MASK;
    if (slot && slot <= KERF_SLOTS)
        __atomic_store_n(&ledger->slots[slot - 1].ack, (uint16_t)seq, __ATOMIC_RELEASE);
}

static void note_peak(struct kerf_card *card, uint64_t bytes)
{
    if (bytes > __atomic_load_n(&card->peak, __ATOMIC_RELAXED))
        __atomic_store_n(&card->peak, bytes, __ATOMIC_RELAXED);
}

/*
 * Adds `delta` bytes to what slot `slot` and its container are charged for `card`; false and no
 * change when that would pass `limit`. pre: the caller alone changes this slot.
 */
bool kerf_slot_move(struct kerf_ledger *ledger, unsigned slot, unsigned card, int64_t delta, uint64_t limit)
{
    struct kerf_slot *own = &ledger->slots[slot];
    uint64_t *charged = &ledger->cards[card].charged;
    unsigned seq = (own->seq % SEQ_MASK) + 1;
    uint64_t target = own->bytes[card] + (uint64_t)delta;
    __atomic_store_n(&own->seq, (uint16_t)seq, __ATOMIC_RELAXED);
    __atomic_store_n(&own->ack, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&own->target, target, __ATOMIC_RELAXED);
    __atomic_store_n(&own->intent, INTENT_SET | ((uint64_t)card << 32) | seq, __ATOMIC_RELEASE);
    uint64_t word = __atomic_load_n(charged, __ATOMIC_ACQUIRE), bytes;
    do {
        bytes = (word & KERF_CHARGED_MASK) + (uint64_t)delta;
        if (unlikely(delta < 0 && (word & KERF_CHARGED_MASK) < (uint64_t)-delta)) {
            bytes = 0; /* someone wrote to the ledger: never let it wrap round to a full card */
            __atomic_add_fetch(&ledger->header.events[KERF_EVENT_FREE_MISMATCH], 1, __ATOMIC_RELAXED);
        }
        if (delta > 0 && bytes > limit) {
            __atomic_store_n(&own->intent, 0, __ATOMIC_RELEASE);
            return false;
        }
        acknowledge(ledger, word);
    } while (!__atomic_compare_exchange_n(charged, &word, (bytes & KERF_CHARGED_MASK) | tag_of(slot, seq), false,
                                          __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
    __atomic_store_n(&own->bytes[card], target, __ATOMIC_RELEASE);
    __atomic_store_n(&own->intent, 0, __ATOMIC_RELEASE);
    if (delta > 0)
        note_peak(&ledger->cards[card], bytes);
    return true;
}

/* Finishes or forgets the change that a dead owner left under way. pre: the caller holds the slot's life. */
void kerf_slot_recover(struct kerf_ledger *ledger, unsigned slot)
{
    struct kerf_slot *dead = &ledger->slots[slot];
    uint64_t intent = __atomic_load_n(&dead->intent, __ATOMIC_ACQUIRE);
    if (!(intent & INTENT_SET))
        return;
    unsigned card = (unsigned)(intent >> 32) & (KERF_CARDS_MAX - 1);
    unsigned seq = (unsigned)intent & SEQ_MASK;
    uint64_t word = __atomic_load_n(&ledger->cards[card].charged, __ATOMIC_ACQUIRE);
    bool took_effect = (word & ~KERF_CHARGED_MASK) == tag_of(slot, seq) ||
                       __atomic_load_n(&dead->ack, __ATOMIC_ACQUIRE) == seq;
    if (took_effect)
        __atomic_store_n(&dead->bytes[card], dead->target, __ATOMIC_RELEASE);
    __atomic_store_n(&dead->intent, 0, __ATOMIC_RELEASE);
}

/* Gives back what a dead process held. Killed half-way, the next one to look goes on. */
static void bury(struct kerf_ledger *ledger, unsigned slot)
{
    struct kerf_slot *dead = &ledger->slots[slot];
    bool held = false;
    kerf_slot_recover(ledger, slot);
    for (unsigned card = 0; card < KERF_CARDS_MAX; card++) {
        if (!dead->bytes[card])
            continue;
        held = true;
        /* Lowering never fails. */
        (void)!kerf_slot_move(ledger, slot, card, -(int64_t)dead->bytes[card], KERF_UNLIMITED);
    }
    memset(dead->kinds, 0, sizeof dead->kinds);
    __atomic_store_n(&dead->host_pid, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&dead->pid, 0, __ATOMIC_RELEASE);
    if (held)
        __atomic_add_fetch(&ledger->header.events[KERF_EVENT_PROCESS_LOST], 1, __ATOMIC_RELAXED);
}

/* True when nobody lives in the slot; the calling thread then holds its life, and it is empty. */
static bool enter(struct kerf_ledger *ledger, unsigned slot)
{
    pthread_mutex_t *life = &ledger->slots[slot].life.mutex;
    int rc = pthread_mutex_trylock(life);
    if (rc != 0 && rc != EOWNERDEAD)
        return false;
    if (__atomic_load_n(&ledger->slots[slot].pid, __ATOMIC_ACQUIRE))
        bury(ledger, slot);
    if (rc == EOWNERDEAD)
        pthread_mutex_consistent(life);
    return true;
}

static uint64_t process_start(void)
{
    char text[512];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = 0;
    const char *at = strrchr(text, ')'); /* the command may hold spaces and brackets */
    unsigned long long start = 0;
    if (at && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &start) != 1)
        start = 0;
    return start;
}

int kerf_slot_claim(struct kerf_ledger *ledger)
{
    for (unsigned i = 0; i < KERF_SLOTS; i++) {
        if (!enter(ledger, i))
            continue;
        struct kerf_slot *slot = &ledger->slots[i];
        slot->start = process_start();
        slot->busy_ns = 0;
        slot->stays++;
        int comm = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
        memset(slot->comm, 0, sizeof slot->comm);
        if (comm >= 0) {
            ssize_t got = read(comm, slot->comm, sizeof slot->comm - 1);
            slot->comm[got > 0 ? got - 1 : 0] = 0; /* without the line end */
            close(comm);
        }
        __atomic_store_n(&slot->pid, (int32_t)getpid(), __ATOMIC_RELEASE);
        return (int)i;
    }
    return -1;
}

void kerf_slot_sweep(struct kerf_ledger *ledger, int own)
{
    for (unsigned i = 0; i < KERF_SLOTS; i++) {
        if ((int)i == own || !__atomic_load_n(&ledger->slots[i].pid, __ATOMIC_ACQUIRE))
            continue;
        if (enter(ledger, i))
            pthread_mutex_unlock(&ledger->slots[i].life.mutex);
    }
}
