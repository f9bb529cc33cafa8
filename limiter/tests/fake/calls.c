/* What the driver's own calls cost. A real driver has a lock: a thread that asks about an event delays one that launches. */
#include "driver.h"

static struct fake_calls made;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Nanoseconds, about as an H200's driver takes them. */
static const uint64_t cost[FAKE_CALL_KINDS] = { [FAKE_LAUNCH] = 4000, [FAKE_RECORD] = 1500, [FAKE_QUERY] = 1500, [FAKE_ELAPSED] = 1000 };

static void take(void)
{
    if (pthread_mutex_trylock(&lock) == 0)
        return;
    uint64_t from = fake_now();
    pthread_mutex_lock(&lock);
    made.waits++; /* under the lock */
    made.waited_ns += fake_now() - from;
}

struct fake_calls fake_calls_made(void)
{
    return made;
}

bool fake_calls_cost(void)
{
    static int known = -1;
    if (known < 0)
        known = fake_setting("FAKE_CALLS", 0) != 0;
    return known;
}

void fake_call(enum fake_call call)
{
    if (fake_fast())
        return;
    __atomic_add_fetch(&made.count[call], 1, __ATOMIC_RELAXED);
    if (!fake_calls_cost())
        return;
    take();
    for (uint64_t end = fake_now() + cost[call]; fake_now() < end;)
        ;
    pthread_mutex_unlock(&lock);
}
