/* The process's state, and the small things that every layer needs. */
#include <linux/futex.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

struct kerf_state kerf = { .slot = -1 };

uint64_t kerf_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void kerf_count(enum kerf_event event)
{
    if (kerf.ledger)
        __atomic_add_fetch(&kerf.ledger->header.events[event], 1, __ATOMIC_RELAXED);
}

void kerf_say(const char *text)
{
    char line[512];
    int length = snprintf(line, sizeof line, "kerf: %s\n", text);
    if (length > 0)
        (void)!write(STDERR_FILENO, line, (size_t)(length < (int)sizeof line ? length : (int)sizeof line - 1));
}

void kerf_futex_wake(uint32_t *word, int count, bool shared)
{
    syscall(SYS_futex, word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

void kerf_futex_wait(uint32_t *word, uint32_t value, uint64_t timeout_ns, bool shared)
{
    struct timespec timeout = { .tv_sec = (time_t)(timeout_ns / 1000000000u), .tv_nsec = (long)(timeout_ns % 1000000000u) };
    syscall(SYS_futex, word, shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE, value, &timeout, NULL, 0);
}
