/* Which card of the ledger a CUDA device is. */
#include <stdio.h>

#include "cuda/cuda.h"

struct kerf_cuda kerf_cuda = { .only_card = KERF_NO_CARD };

static pthread_mutex_t map_lock = PTHREAD_MUTEX_INITIALIZER;

static void open_room(void)
{
    pthread_mutex_init(&map_lock, NULL);
    kerf_table_init(&kerf_cuda.pointers);
    kerf_table_init(&kerf_cuda.handles);
    kerf_table_init(&kerf_cuda.mappings);
    kerf_table_init(&kerf_cuda.arrays);
    kerf_table_init(&kerf_cuda.graphs);
}

const struct kerf_room kerf_device_room = { .open = open_room };

int kerf_current_device(void)
{
    CUdevice device;
    return kerf_real.cuCtxGetDevice(&device) == CUDA_SUCCESS ? device : -1;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Whether a record's text ("GPU-…", "MIG-…" or digits: the n-th visible card) means this device. */
static bool names_device(const char *text, const CUuuid *uuid, int device)
{
    int number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && at - text < 4; at++)
        number = number * 10 + (*at - '0');
    if (!*at)
        return number == device;
    for (at = text; *at && *at != '-';)
        at++;
    int nibbles = 0;
    for (; *at && nibbles < 32; at++) {
        int value = hex(*at);
        if (value < 0)
            continue;
        int byte = (unsigned char)uuid->bytes[nibbles / 2];
        if (value != (nibbles % 2 ? byte & 15 : byte >> 4))
            return false;
        nibbles++;
    }
    return nibbles == 32;
}

static int find_card(CUdevice device)
{
    CUuuid uuid = { { 0 } };
    CUresult rc = kerf_has(kerf_real.cuDeviceGetUuid_v2) ? kerf_real.cuDeviceGetUuid_v2(&uuid, device)
                                                         : kerf_real.cuDeviceGetUuid(&uuid, device);
    if (rc != CUDA_SUCCESS)
        return KERF_UNKNOWN_CARD;
    for (unsigned i = 0; i < kerf.ledger->header.card_count; i++)
        if (names_device(kerf.ledger->cards[i].uuid, &uuid, device))
            return (int)i;
    kerf_count(KERF_EVENT_UNKNOWN_CARD);
    return KERF_UNKNOWN_CARD;
}

/* Device 0 may be one of them: "out of memory" on a card that is free needs a reason. */
static void say_unknown(int unknown, int count)
{
    char text[300];
    snprintf(text, sizeof text,
             "%d of the %d cards that this process sees are not granted to its container, which gets no memory of them "
             "(a privileged container sees every card: name yours, such as CUDA_VISIBLE_DEVICES=%.64s)",
             unknown, count, kerf.ledger->header.card_count ? kerf.ledger->cards[0].uuid : "");
    kerf_say(text);
}

static void map_devices(void)
{
    int count = 0;
    if (kerf_real.cuDeviceGetCount(&count) != CUDA_SUCCESS || count <= 0)
        return; /* cuInit has not run; ask again next time */
    if (count > KERF_DEVICES_MAX)
        count = KERF_DEVICES_MAX;
    pthread_mutex_lock(&map_lock);
    int unknown = 0;
    for (int i = 0; i < count && !kerf_cuda.devices; i++) {
        __atomic_store_n(&kerf_cuda.card_of_device[i], (int16_t)find_card(i), __ATOMIC_RELAXED);
        unknown += kerf_cuda.card_of_device[i] == KERF_UNKNOWN_CARD;
    }
    if (unknown)
        say_unknown(unknown, count);
    kerf_cuda.only_card = count == 1 ? kerf_cuda.card_of_device[0] : KERF_NO_CARD;
    __atomic_store_n(&kerf_cuda.devices, count, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&map_lock);
}

int kerf_card_of(int device)
{
    if (kerf.stage < KERF_STAGE_OPEN)
        return KERF_NO_CARD;
    if (!__atomic_load_n(&kerf_cuda.devices, __ATOMIC_ACQUIRE))
        map_devices();
    if (device < 0 || device >= __atomic_load_n(&kerf_cuda.devices, __ATOMIC_ACQUIRE))
        return KERF_NO_CARD;
    return __atomic_load_n(&kerf_cuda.card_of_device[device], __ATOMIC_RELAXED);
}
