/* The cards behind the fake driver: memory, and time sliced between processes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

struct fake_world *fake_world;
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static int fast, fail_calls, fail_code, masked = -1, visible[FAKE_CARDS];

uint64_t fake_setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

uint64_t fake_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void build(struct fake_world *world)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&world->lock, &attr);
    world->cards = (uint32_t)fake_setting("FAKE_CARDS", 1);
    for (int i = 0; i < FAKE_CARDS; i++) {
        world->card[i].total = fake_setting("FAKE_MEMORY_MIB", 16384) << 20;
        world->card[i].now_ns = fake_now();
        world->card[i].running = -1;
    }
    __atomic_store_n(&world->ready, 1, __ATOMIC_RELEASE);
}

#define PAUSE_NS 2000u
#define UUID_TEXT 40 /* "GPU-" and 36 characters, of which the last two are the card's number */

static void read_mask(void)
{
    const char *mask = getenv("CUDA_VISIBLE_DEVICES");
    masked = 0;
    for (; mask && *mask && masked < FAKE_CARDS; mask += strcspn(mask, ","), mask += *mask == ',') {
        bool uuid = strncmp(mask, "GPU-", 4) == 0 && strcspn(mask, ",") == UUID_TEXT;
        if (!uuid && (*mask < '0' || *mask > '9'))
            break;
        unsigned long card = uuid ? strtoul(mask + UUID_TEXT - 2, NULL, 16) : strtoul(mask, NULL, 10);
        if (card >= fake_world->cards)
            break;
        visible[masked++] = (int)card;
    }
    if (!getenv("CUDA_VISIBLE_DEVICES"))
        for (; masked < (int)fake_world->cards; masked++)
            visible[masked] = masked;
}

static void forget_world(void)
{
    pthread_mutex_init(&open_lock, NULL);
    if (getenv("FAKE_GPU"))
        return;
    fake_world = NULL; /* a private machine is not shared with a child */
}

void fake_open(void)
{
    if (__atomic_load_n(&fake_world, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&open_lock);
    if (!fake_world) {
        const char *path = getenv("FAKE_GPU");
        int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : -1;
        if (fd >= 0) {
            flock(fd, LOCK_EX);
            if (lseek(fd, 0, SEEK_END) < (off_t)sizeof(struct fake_world) && ftruncate(fd, sizeof(struct fake_world)) != 0)
                abort();
        }
        struct fake_world *world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
        if (world == MAP_FAILED)
            abort();
        if (!world->ready)
            build(world);
        if (fd >= 0) {
            flock(fd, LOCK_UN); /* by hand: the mapping keeps the open file alive */
            close(fd);
        }
        fast = fake_setting("FAKE_FAST", 0) != 0;
        pthread_atfork(NULL, NULL, forget_world);
        __atomic_store_n(&fake_world, world, __ATOMIC_RELEASE);
        read_mask();
    }
    pthread_mutex_unlock(&open_lock);
}

bool fake_fast(void)
{
    return fast;
}

int fake_visible(void)
{
    return masked;
}

int fake_physical(int device)
{
    return device >= 0 && device < masked ? visible[device] : -1;
}

CUuuid fake_uuid(int card)
{
    CUuuid uuid;
    for (int i = 0; i < 16; i++)
        uuid.bytes[i] = (char)(i == 15 ? card : 0xa0 + i);
    return uuid;
}

/* Someone was killed while changing the books: what the processes hold is the truth. */
static void repair(void)
{
    for (int card = 0; card < FAKE_CARDS; card++) {
        fake_world->card[card].used = 0;
        for (int i = 0; i < FAKE_PROCESSES; i++)
            fake_world->card[card].used += fake_world->processes[i].used[card];
    }
    pthread_mutex_consistent(&fake_world->lock);
}

void fake_lock(void)
{
    if (pthread_mutex_lock(&fake_world->lock) == EOWNERDEAD)
        repair();
}

void fake_unlock(void)
{
    pthread_mutex_unlock(&fake_world->lock);
}

void fake_fail_next(int calls, int code)
{
    fail_calls = calls;
    fail_code = code;
}

int fake_failure(void)
{
    if (__atomic_load_n(&fail_calls, __ATOMIC_RELAXED) <= 0)
        return 0;
    __atomic_sub_fetch(&fail_calls, 1, __ATOMIC_RELAXED);
    return fail_code;
}

/* Containers that share a card number their processes alike: every one's first is 1. A PID means nothing without this. */
static uint64_t pid_space(void)
{
    static uint64_t known;
    struct stat st;
    if (!known && stat("/proc/self/ns/pid", &st) == 0)
        known = st.st_ino;
    return known;
}

bool fake_is_here(int pid, uint64_t space)
{
    return pid && space == pid_space();
}

/* Of another container's processes nobody here can tell. */
static bool is_dead(int pid, uint64_t space)
{
    return fake_is_here(pid, space) && kill(pid, 0) != 0 && errno == ESRCH;
}

/* A real driver takes back what a dead process held; here it happens when someone looks. */
static void bury_dead(void)
{
    for (int i = 0; i < FAKE_PROCESSES; i++) {
        struct fake_process *process = &fake_world->processes[i];
        if (!is_dead(process->pid, process->space))
            continue;
        for (int card = 0; card < FAKE_CARDS; card++)
            fake_world->card[card].used -= process->used[card];
        memset(process, 0, sizeof *process);
    }
}

static struct fake_process *own_process(void)
{
    static __thread int pid;
    static __thread struct fake_process *own;
    if (own && pid == getpid() && own->pid == pid)
        return own;
    pid = getpid();
    own = NULL;
    for (int i = 0; i < FAKE_PROCESSES; i++)
        if (fake_world->processes[i].pid == pid && fake_is_here(pid, fake_world->processes[i].space))
            return own = &fake_world->processes[i];
    bury_dead();
    for (int i = 0; i < FAKE_PROCESSES; i++) {
        if (fake_world->processes[i].pid)
            continue;
        fake_world->processes[i].space = pid_space();
        fake_world->processes[i].pid = pid;
        return own = &fake_world->processes[i];
    }
    abort();
}

/* After exec the PID is the same, the memory is not: what this PID held before is gone. */
void fake_begin_anew(void)
{
    if (!getenv("FAKE_GPU"))
        return;
    fake_lock();
    struct fake_process *own = own_process();
    for (int card = 0; card < FAKE_CARDS; card++) {
        fake_world->card[card].used -= own->used[card];
        own->used[card] = 0;
    }
    fake_unlock();
}

bool fake_take_memory(int card, uint64_t bytes)
{
    struct fake_card *c = &fake_world->card[card];
    if (fast)
        return true;
    fake_lock();
    if (c->used + bytes > c->total)
        bury_dead();
    bool ok = bytes <= c->total && c->used + bytes <= c->total;
    if (ok) {
        c->used += bytes;
        own_process()->used[card] += bytes;
    }
    fake_unlock();
    return ok;
}

void fake_give_memory(int card, uint64_t bytes)
{
    if (fast)
        return;
    fake_lock();
    fake_world->card[card].used -= bytes;
    own_process()->used[card] -= bytes;
    fake_unlock();
}

void fake_linger(void)
{
    usleep((useconds_t)fake_setting("FAKE_LINGER_MS", 0) * 1000);
}

uint64_t fake_own_memory(int card)
{
    fake_lock();
    uint64_t bytes = own_process()->used[card];
    fake_unlock();
    return bytes;
}

uint64_t fake_live_bytes(int card)
{
    fake_open();
    fake_lock();
    bury_dead();
    uint64_t bytes = fake_world->card[card].used;
    fake_unlock();
    return bytes;
}

static bool waiting(const struct fake_queue *queue, int card)
{
    return queue->pid && queue->card == card && queue->done < queue->sent;
}

static int next_queue(int card, int after)
{
    for (int i = 1; i <= FAKE_QUEUES; i++) {
        int at = (after + i + FAKE_QUEUES) % FAKE_QUEUES;
        if (waiting(&fake_world->queues[at], card))
            return at;
    }
    return -1;
}

static void note_busy(struct fake_queue *queue, uint64_t from, uint64_t ns)
{
    queue->busy_ns += ns;
    for (uint64_t at = from; at < from + ns;) {
        uint64_t window = at / FAKE_WINDOW_NS, end = (window + 1) * FAKE_WINDOW_NS;
        uint64_t part = (end < from + ns ? end : from + ns) - at;
        for (; queue->window_at < window; queue->window_at = queue->window_at + FAKE_WINDOWS < window ? window : queue->window_at + 1)
            queue->window[(queue->window_at + 1) % FAKE_WINDOWS] = 0;
        queue->window[window % FAKE_WINDOWS] += part;
        at += part;
    }
}

/* Whether the item that runs is a collective whose other rank has not come yet: it spins. */
static bool waits_for_peer(struct fake_queue *queue, const struct fake_item *item)
{
    if (!item->number)
        return false;
    struct fake_group *group = &fake_world->groups[queue->group];
    if (group->reached[queue->rank] < item->number)
        group->reached[queue->rank] = item->number;
    return group->reached[!queue->rank] < item->number;
}

static void advance_one(int card, uint64_t now)
{
    struct fake_card *c = &fake_world->card[card];
    while (c->now_ns < now) {
        if (c->running < 0 || c->slice_left == 0 || !waiting(&fake_world->queues[c->running], card)) {
            c->running = next_queue(card, c->running);
            c->slice_left = FAKE_SLICE_NS;
        }
        if (c->running < 0) {
            c->now_ns = now;
            return;
        }
        struct fake_queue *queue = &fake_world->queues[c->running];
        struct fake_item *item = &queue->ring[queue->done % FAKE_RING];
        uint64_t step = now - c->now_ns;
        step = step < c->slice_left ? step : c->slice_left;
        step = step < item->left_ns ? step : item->left_ns;
        bool spins = waits_for_peer(queue, item);
        if (spins)
            step = c->slice_left < now - c->now_ns ? c->slice_left : now - c->now_ns;
        else
            item->left_ns -= step;
        c->slice_left -= step;
        note_busy(queue, c->now_ns, step);
        c->now_ns += step;
        if (!spins && !item->left_ns) {
            item->done_at = c->now_ns;
            queue->done++;
        }
    }
}

#define TOGETHER_NS 20000u

void fake_advance(int card, uint64_t now)
{
    if (!fake_world->peers) {
        advance_one(card, now);
        return;
    }
    for (uint64_t at = now;; at = now) {
        for (uint32_t i = 0; i < fake_world->cards; i++)
            at = fake_world->card[i].now_ns < at ? fake_world->card[i].now_ns : at;
        if (at >= now)
            return;
        at = at + TOGETHER_NS < now ? at + TOGETHER_NS : now;
        for (uint32_t i = 0; i < fake_world->cards; i++)
            if (fake_world->card[i].now_ns < at)
                advance_one((int)i, at);
    }
}

static struct fake_queue *own_queue(int card)
{
    static __thread struct fake_queue *own;
    int pid = getpid();
    if (own && own->pid == pid && own->card == card)
        return own;
    for (int i = 0; i < FAKE_QUEUES; i++)
        if (fake_world->queues[i].pid == pid && fake_is_here(pid, fake_world->queues[i].space) && fake_world->queues[i].card == card)
            return own = &fake_world->queues[i];
    for (int i = 0; i < FAKE_QUEUES; i++) {
        struct fake_queue *queue = &fake_world->queues[i];
        if (queue->pid && !is_dead(queue->pid, queue->space))
            continue;
        memset(queue, 0, offsetof(struct fake_queue, ring));
        queue->pid = pid;
        queue->space = pid_space();
        queue->card = card;
        return own = queue;
    }
    abort();
}

/* The number of this collective among its rank's; 0 when the kernel is none. */
static uint64_t join_group(struct fake_queue *queue, int group)
{
    if (!group)
        return 0;
    if (!queue->group) {
        fake_world->peers = 1;
        queue->group = group;
        queue->rank = fake_world->groups[group].ranks++ % 2;
    }
    return ++queue->collectives;
}

uint64_t fake_submit(int card, uint64_t duration_ns)
{
    for (;; usleep(20)) {
        fake_lock();
        fake_advance(card, fake_now());
        struct fake_queue *queue = own_queue(card);
        if (queue->sent - queue->done < 1024) { /* a real driver's queue is as long, and blocks as well */
            queue->ring[queue->sent % FAKE_RING] = (struct fake_item){ .left_ns = duration_ns & ((1ull << 40) - 1), .number = join_group(queue, (int)(duration_ns >> 40)) };
            uint64_t number = queue->sent++;
            if (!duration_ns && queue->done == number) {
                queue->ring[number % FAKE_RING].done_at = fake_world->card[card].now_ns;
                queue->done++;
            }
            fake_unlock();
            return number;
        }
        fake_unlock();
    }
}

bool fake_over(int card, uint64_t number, uint64_t *done_at)
{
    fake_lock();
    fake_advance(card, fake_now());
    struct fake_queue *queue = own_queue(card);
    bool over = number < queue->done;
    if (over && done_at)
        *done_at = queue->ring[number % FAKE_RING].done_at;
    fake_unlock();
    return over;
}

/* Between two looks at work that is waited for. */
void fake_pause(void)
{
    if (!fake_calls_cost()) {
        usleep(20);
        return;
    }
    for (uint64_t end = fake_now() + PAUSE_NS; fake_now() < end;)
        ;
}

void fake_wait_all(int card)
{
    if (fast)
        return;
    fake_lock();
    uint64_t last = own_queue(card)->sent;
    fake_unlock();
    while (last && !fake_over(card, last - 1, NULL))
        fake_pause();
}

uint64_t fake_busy_ns(int card)
{
    fake_open();
    fake_lock();
    fake_advance(card, fake_now());
    uint64_t busy = own_queue(card)->busy_ns;
    fake_unlock();
    return busy;
}
