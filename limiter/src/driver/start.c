/* Coming alive in a process: nothing until the first CUDA call, then the ledger, then a slot in it. */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver/driver.h"
#include "ledger/ledger.h"

#define DEFAULT_LEDGER "/usr/local/kerf/ledger" /* where the node agent mounts it; used when KERF_LEDGER names none */
#define NO_LEDGER " does not exist; this process gets no GPU memory (`kerf ledger create` makes a ledger)"

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t pacer;
static int pacer_ready; /* 0 starting, 1 has a slot, -1 failed */
static pthread_mutex_t ready_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready_signal = PTHREAD_COND_INITIALIZER;

static void refuse(const char *path, const char *why)
{
    char text[400];
    snprintf(text, sizeof text, "the ledger %.250s %s; this process gets no GPU memory", path, why);
    kerf_say(text);
}

static void open_rooms(void)
{
    for (const struct kerf_room *const *room = kerf_rooms; *room; room++)
        if ((*room)->open)
            (*room)->open();
}

/* A child shares nothing with its parent: no slot, no bytes, no pacer. CUDA itself starts over there. */
static void in_child(void)
{
    pthread_mutex_init(&start_lock, NULL);
    pthread_mutex_init(&ready_lock, NULL);
    pthread_cond_init(&ready_signal, NULL);
    kerf_account_child();
    if (kerf.stage < KERF_STAGE_OPEN)
        return;
    open_rooms();
    kerf.slot = -1;
    pacer_ready = 0;
    kerf.launch_free = kerf.open && !kerf.gated_cards;
    kerf.stage = KERF_STAGE_OPEN;
}

static int open_ledger(void)
{
    const char *path = getenv("KERF_LEDGER"), *why = NULL;
    bool named = path && *path;
    if (!named && access(DEFAULT_LEDGER, F_OK) != 0) {
        kerf_say(path ? "KERF_LEDGER is empty and " DEFAULT_LEDGER NO_LEDGER : "KERF_LEDGER is not set and " DEFAULT_LEDGER NO_LEDGER);
        return KERF_STAGE_CLOSED;
    }
    path = named ? path : DEFAULT_LEDGER;
    kerf.ledger = kerf_ledger_map(path, &why);
    if (!kerf.ledger) {
        refuse(path, why);
        return KERF_STAGE_CLOSED;
    }
    for (unsigned i = 0; i < kerf.ledger->header.card_count; i++)
        kerf.gated_cards += kerf.ledger->cards[i].cores > 0 || kerf.ledger->cards[i].arbiter[0];
    return KERF_STAGE_OPEN;
}

void kerf_open_ledger(void)
{
    if (__atomic_load_n(&kerf.stage, __ATOMIC_ACQUIRE) != KERF_STAGE_NEW)
        return;
    int saved_errno = errno;
    pthread_mutex_lock(&start_lock);
    if (kerf.stage == KERF_STAGE_NEW) {
        open_rooms();
        int stage = open_ledger();
        if (stage >= KERF_STAGE_OPEN)
            pthread_atfork(NULL, NULL, in_child);
        __atomic_store_n(&kerf.stage, stage, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&start_lock);
    errno = saved_errno;
}

void kerf_start(void)
{
    kerf_bind_cuda(NULL, true);
    kerf_open_ledger();
    /* A process that may not allocate has nothing to pace. */
    kerf.launch_free = kerf.stage < KERF_STAGE_OPEN || !kerf.gated_cards;
    __atomic_store_n(&kerf.open, 1, __ATOMIC_RELEASE);
}

static void *pacer_main(void *unused)
{
    (void)unused;
    int slot = kerf_slot_claim(kerf.ledger);
    pthread_mutex_lock(&ready_lock);
    kerf.slot = slot;
    pacer_ready = slot >= 0 ? 1 : -1;
    pthread_cond_broadcast(&ready_signal);
    pthread_mutex_unlock(&ready_lock);
    for (const struct kerf_room *const *room = kerf_rooms; *room && slot >= 0; room++)
        if ((*room)->run)
            (*room)->run();
    return NULL;
}

/* The pacer must never take a signal meant for the application. */
static bool start_pacer(void)
{
    sigset_t all, saved;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 << 10);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&pacer, &attr, pacer_main, NULL);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
    return rc == 0;
}

static void leave(void)
{
    for (const struct kerf_room *const *room = kerf_rooms; *room; room++)
        if ((*room)->leave)
            (*room)->leave();
}

static void take_slot(void)
{
    kerf.pid = getpid();
    for (const struct kerf_room *const *room = kerf_rooms; *room; room++)
        if ((*room)->live)
            (*room)->live();
    if (!start_pacer()) {
        kerf_say("no thread could be started for the ledger; this process gets no GPU memory");
        kerf.stage = KERF_STAGE_CLOSED;
        return;
    }
    pthread_mutex_lock(&ready_lock);
    while (!pacer_ready)
        pthread_cond_wait(&ready_signal, &ready_lock);
    pthread_mutex_unlock(&ready_lock);
    if (kerf.slot < 0) {
        kerf_count(KERF_EVENT_NO_SLOT);
        kerf_say("all process slots of the ledger are taken; this process gets no GPU memory");
    }
    atexit(leave); /* after libcuda's own, so it runs before them */
    __atomic_store_n(&kerf.stage, kerf.slot < 0 ? KERF_STAGE_CLOSED : KERF_STAGE_LIVE, __ATOMIC_RELEASE);
}

bool kerf_go_live(void)
{
    kerf_open();
    int stage = __atomic_load_n(&kerf.stage, __ATOMIC_ACQUIRE);
    if (likely(stage == KERF_STAGE_LIVE))
        return true;
    if (stage != KERF_STAGE_OPEN)
        return false;
    pthread_mutex_lock(&start_lock);
    if (kerf.stage == KERF_STAGE_OPEN)
        take_slot();
    pthread_mutex_unlock(&start_lock);
    return __atomic_load_n(&kerf.stage, __ATOMIC_ACQUIRE) == KERF_STAGE_LIVE;
}
