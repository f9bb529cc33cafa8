/* What NVML (and so nvidia-smi) shows: the slice, and this container's processes alone. */
#include <stdlib.h>
#include <string.h>

#include "nvml/nvml.h"

#define LIST_BYTES 32768 /* at least 1,024 rows of any list, and the 4,000 PIDs of the largest accounting buffer */
#define LOOK_AGAIN_NS 200000000u

/* NVML may be used by processes that never touch CUDA: map the ledger, take no slot. */
static int card_of(nvmlDevice_t device)
{
    kerf_bind_nvml(NULL, true);
    kerf_open_ledger();
    return kerf_card_of_nvml(device);
}

struct memory {
    unsigned long long total, free, used;
};

static void trim(int card, struct memory *memory)
{
    uint64_t limit = kerf.ledger->cards[card].memory_limit;
    kerf_slot_sweep(kerf.ledger, kerf.slot);
    uint64_t used = kerf_charged(kerf.ledger, (unsigned)card);
    memory->total = limit < memory->total ? limit : memory->total;
    memory->used = used < memory->total ? used : memory->total;
    uint64_t left = memory->total - memory->used;
    memory->free = left < memory->free ? left : memory->free;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out)
{
    int card = card_of(device);
    nvmlReturn_t rc = kerf_real.nvmlDeviceGetMemoryInfo(device, out);
    if (rc != NVML_SUCCESS || card < 0)
        return rc;
    struct memory memory = { out->total, out->free, out->used };
    trim(card, &memory);
    *out = (nvmlMemory_t){ .total = memory.total, .free = memory.free, .used = memory.used };
    return rc;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *out)
{
    int card = card_of(device);
    nvmlReturn_t rc = kerf_real.nvmlDeviceGetMemoryInfo_v2(device, out);
    if (rc != NVML_SUCCESS || card < 0)
        return rc;
    struct memory memory = { out->total, out->free, out->used };
    trim(card, &memory);
    out->total = memory.total;
    out->free = memory.free;
    out->used = memory.used;
    out->reserved = 0; /* the driver's own part is outside the slice */
    return rc;
}

/*
 * Every list works alike: get all rows from the driver, keep ours, answer within the caller's room.
 * A row has `row` bytes, with the PID at offset `pid_at`.
 */
struct list {
    size_t row, pid_at;
    void *rows;
    unsigned count;
};

static unsigned pid_of(const struct list *list, unsigned i)
{
    unsigned pid;
    memcpy(&pid, (const char *)list->rows + i * list->row + list->pid_at, sizeof pid);
    return pid;
}

static void keep_ours(struct list *list)
{
    unsigned kept = 0;
    kerf_slot_sweep(kerf.ledger, kerf.slot);
    for (unsigned i = 0; i < list->count; i++) {
        if (!kerf_pid_is_ours(pid_of(list, i)))
            continue;
        memmove((char *)list->rows + kept * list->row, (char *)list->rows + i * list->row, list->row);
        kept++;
    }
    list->count = kept;
}

static nvmlReturn_t hand_over(const struct list *list, unsigned *count, void *out)
{
    unsigned room = *count;
    *count = list->count;
    if (list->count > room)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    if (out && list->count)
        memcpy(out, list->rows, list->count * list->row);
    return NVML_SUCCESS;
}

/* A question that NVML answers with rows. `real` points to the driver's function, which is bound late. */
struct question {
    nvmlDevice_t device;
    size_t row, pid_at;
    nvmlReturn_t (*ask)(const struct question *question, unsigned int *count, void *rows);
    const void *real;
    unsigned long long since;
};

static nvmlReturn_t answer(const struct question *question, unsigned int *count, void *out)
{
    if (card_of(question->device) < 0 || !count)
        return question->ask(question, count, out);
    char rows[LIST_BYTES] __attribute__((aligned(8)));
    struct list list = { question->row, question->pid_at, rows, (unsigned)(LIST_BYTES / question->row) };
    nvmlReturn_t rc = question->ask(question, &list.count, rows);
    if (rc != NVML_SUCCESS)
        return rc;
    keep_ours(&list);
    return hand_over(&list, count, out);
}

typedef nvmlReturn_t (*ask_rows)(nvmlDevice_t, unsigned int *, void *);

static nvmlReturn_t ask_plain(const struct question *question, unsigned int *count, void *rows)
{
    return (*(const ask_rows *)question->real)(question->device, count, rows);
}

#define PROCESS_LIST(name, type)                                                                                \
    nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, type *list)                                     \
    {                                                                                                           \
        const struct question question = { device, sizeof(type), offsetof(type, pid), ask_plain, &kerf_real.name, 0 }; \
        return answer(&question, count, list);                                                                  \
    }
#define PROCESS_LISTS(name)                        \
    PROCESS_LIST(name, nvmlProcessInfo_v1_t)       \
    PROCESS_LIST(name##_v2, nvmlProcessInfo_v2_t)  \
    PROCESS_LIST(name##_v3, nvmlProcessInfo_v2_t)

PROCESS_LISTS(nvmlDeviceGetComputeRunningProcesses)
PROCESS_LISTS(nvmlDeviceGetGraphicsRunningProcesses)
PROCESS_LISTS(nvmlDeviceGetMPSComputeRunningProcesses)

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *out)
{
    const struct question question = { device, sizeof *out, 0, ask_plain, &kerf_real.nvmlDeviceGetAccountingPids, 0 };
    return answer(&question, count, out);
}

static nvmlReturn_t ask_utilization(const struct question *question, unsigned int *count, void *rows)
{
    return kerf_real.nvmlDeviceGetProcessUtilization(question->device, rows, count, question->since);
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *out, unsigned int *count, unsigned long long since)
{
    const struct question question = { device, sizeof *out, offsetof(nvmlProcessUtilizationSample_t, pid), ask_utilization, NULL, since };
    return answer(&question, count, out);
}

/* The same for lists that the driver writes into the caller's own rows; returns how many are left. */
static unsigned keep_in_place(struct list list, unsigned room)
{
    list.count = list.count < room ? list.count : room;
    keep_ours(&list);
    return list.count;
}

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_v1_t *out)
{
    int card = card_of(device);
    unsigned room = out ? out->numProcArrayEntries : 0;
    nvmlReturn_t rc = kerf_real.nvmlDeviceGetRunningProcessDetailList(device, out);
    if (rc == NVML_SUCCESS && card >= 0 && out->procArray)
        out->numProcArrayEntries = keep_in_place(
            (struct list){ sizeof *out->procArray, offsetof(nvmlProcessDetail_v1_t, pid), out->procArray, out->numProcArrayEntries }, room);
    return rc;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_v1_t *out)
{
    int card = card_of(device);
    unsigned room = out ? out->processSamplesCount : 0;
    nvmlReturn_t rc = kerf_real.nvmlDeviceGetProcessesUtilizationInfo(device, out);
    if (rc == NVML_SUCCESS && card >= 0 && out->procUtilArray)
        out->processSamplesCount = keep_in_place(
            (struct list){ sizeof *out->procUtilArray, offsetof(nvmlProcessUtilizationInfo_v1_t, pid), out->procUtilArray, out->processSamplesCount }, room);
    return rc;
}

/* If NVML does not report processes: the GPU time of our own launches since the last call. */
static unsigned measured_busy(int card, unsigned all)
{
    static uint64_t last_ns[KERF_CARDS_MAX], last_busy[KERF_CARDS_MAX];
    static unsigned last[KERF_CARDS_MAX];
    if (!kerf.ledger->cards[card].cores)
        return all; /* not gated, so not measured */
    uint64_t now = kerf_now_ns(), busy = __atomic_load_n(&kerf.ledger->cards[card].busy_ns, __ATOMIC_RELAXED);
    uint64_t span = now - __atomic_load_n(&last_ns[card], __ATOMIC_RELAXED);
    if (span < LOOK_AGAIN_NS)
        return __atomic_load_n(&last[card], __ATOMIC_RELAXED);
    uint64_t before = __atomic_exchange_n(&last_busy[card], busy, __ATOMIC_RELAXED);
    unsigned percent = last_ns[card] ? (unsigned)((busy - before) * 100 / span) : 0;
    __atomic_store_n(&last_ns[card], now, __ATOMIC_RELAXED);
    __atomic_store_n(&last[card], percent, __ATOMIC_RELAXED);
    return percent < all ? percent : all;
}

/* A slice in full use reads 100: this container's share of the card's time, by what it may have. */
static unsigned scaled(int card, unsigned percent)
{
    unsigned cores = kerf.ledger->cards[card].cores;
    unsigned of_slice = cores ? percent * 100 / cores : percent;
    return of_slice > 100 ? 100 : of_slice;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out)
{
    int card = card_of(device);
    nvmlReturn_t rc = kerf_real.nvmlDeviceGetUtilizationRates(device, out);
    if (rc != NVML_SUCCESS || card < 0)
        return rc;
    unsigned own = 0, all = out->gpu;
    if (!kerf_own_busy(card, 0, &own))
        own = measured_busy(card, all);
    out->memory = all ? out->memory * (own < all ? own : all) / all : 0;
    out->gpu = scaled(card, own);
    return rc;
}

/* Samples of the whole card would show the neighbours; NVML documents this answer for cards without them. */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, int type, unsigned long long since, int *value, unsigned int *count, void *samples)
{
    if (card_of(device) >= 0)
        return NVML_ERROR_NOT_SUPPORTED;
    return kerf_real.nvmlDeviceGetSamples(device, type, since, value, count, samples);
}
