/* NVML over the same cards. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"

#define EXPORT __attribute__((visibility("default")))
#define CUDA_HOOK(symbol, base, version, stream, params)
#define CUDA_NEED(symbol, params)
#define NVML_HOOK(symbol, params) EXPORT nvmlReturn_t symbol params;
#define NVML_NEED(symbol, params) EXPORT nvmlReturn_t symbol params;
#include "driver/hooks.def"
EXPORT nvmlReturn_t nvmlShutdown(void);

static int up;

static int card_of(nvmlDevice_t device)
{
    return (int)(uintptr_t)device - 1;
}

nvmlReturn_t nvmlInit_v2(void)
{
    fake_open();
    up = 1;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlShutdown(void)
{
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    *count = fake_world->cards;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    if (!up || index >= fake_world->cards)
        return up ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_UNINITIALIZED;
    *device = (nvmlDevice_t)(uintptr_t)(index + 1);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *out, unsigned int length)
{
    CUuuid uuid = fake_uuid(card_of(device));
    const unsigned char *b = (const unsigned char *)uuid.bytes;
    snprintf(out, length, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
             b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    if (!up)
        return NVML_ERROR_UNINITIALIZED;
    for (uintptr_t i = 1; i <= fake_world->cards; i++) {
        char own[96];
        nvmlDeviceGetUUID((nvmlDevice_t)i, own, sizeof own);
        if (strcmp(own, uuid) != 0)
            continue;
        *device = (nvmlDevice_t)i;
        return NVML_SUCCESS;
    }
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    memory->total = fake_world->card[card_of(device)].total;
    memory->used = fake_live_bytes(card_of(device));
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    if (!memory || memory->version != (sizeof *memory | 2u << 24))
        return memory ? 25 : NVML_ERROR_INVALID_ARGUMENT;
    memory->total = fake_world->card[card_of(device)].total;
    memory->used = fake_live_bytes(card_of(device));
    memory->reserved = 300u << 20;
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

struct row {
    unsigned pid;
    uint64_t used;
};

static unsigned collect(int card, struct row *rows)
{
    unsigned count = 0;
    if (getenv("FAKE_NO_NVML_PIDS"))
        return 0;
    fake_lock();
    for (int i = 0; i < FAKE_PROCESSES; i++) {
        const struct fake_process *process = &fake_world->processes[i];
        if (fake_is_here(process->pid, process->space) && (kill(process->pid, 0) == 0 || errno == EPERM))
            rows[count++] = (struct row){ (unsigned)process->pid, process->used[card] };
    }
    fake_unlock();
    return count;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v1_t *list)
{
    struct row rows[FAKE_PROCESSES];
    unsigned room = *count;
    *count = collect(card_of(device), rows);
    if (*count > room)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++)
        list[i] = (nvmlProcessInfo_v1_t){ rows[i].pid, rows[i].used };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *list)
{
    struct row rows[FAKE_PROCESSES];
    unsigned room = *count;
    *count = collect(card_of(device), rows);
    if (*count > room)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++)
        list[i] = (nvmlProcessInfo_v2_t){ rows[i].pid, rows[i].used, UINT32_MAX, UINT32_MAX };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_v2_t *list)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, list);
}

#define NO_PROCESSES(name, type)                                                    \
    nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, type *list)         \
    {                                                                               \
        (void)device;                                                               \
        (void)list;                                                                 \
        *count = 0;                                                                 \
        return NVML_SUCCESS;                                                        \
    }
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
NO_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_v2_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
NO_PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_v2_t)
NO_PROCESSES(nvmlDeviceGetAccountingPids, unsigned int)

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_v1_t *list)
{
    struct row rows[FAKE_PROCESSES];
    unsigned count = collect(card_of(device), rows);
    if (count > list->numProcArrayEntries)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    list->numProcArrayEntries = count;
    for (unsigned i = 0; i < count; i++)
        list->procArray[i] = (nvmlProcessDetail_v1_t){ .pid = rows[i].pid, .usedGpuMemory = rows[i].used };
    return NVML_SUCCESS;
}

/* Percent of the last whole windows that a queue was running. */
static unsigned busy_percent(const struct fake_queue *queue, uint64_t now)
{
    uint64_t sum = 0;
    for (uint64_t w = now / FAKE_WINDOW_NS - 5; w < now / FAKE_WINDOW_NS; w++)
        if (w <= queue->window_at && queue->window_at < w + FAKE_WINDOWS)
            sum += queue->window[w % FAKE_WINDOWS];
    return (unsigned)((sum * 100 + FAKE_WINDOW_NS * 5 / 2) / (FAKE_WINDOW_NS * 5));
}

static unsigned collect_busy(int card, bool all, struct row *rows)
{
    unsigned count = 0;
    fake_lock();
    uint64_t now = fake_now();
    fake_advance(card, now);
    for (int i = 0; i < FAKE_QUEUES; i++) {
        const struct fake_queue *queue = &fake_world->queues[i];
        if (queue->pid && queue->card == card && (all || fake_is_here(queue->pid, queue->space)))
            rows[count++] = (struct row){ (unsigned)queue->pid, busy_percent(queue, now) };
    }
    fake_unlock();
    return count;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    struct row rows[FAKE_QUEUES];
    unsigned count = collect_busy(card_of(device), true, rows), sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += (unsigned)rows[i].used;
    *rates = (nvmlUtilization_t){ .gpu = sum > 100 ? 100 : sum, .memory = sum / 2 };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *list, unsigned int *count, unsigned long long since)
{
    (void)since;
    struct row rows[FAKE_QUEUES];
    unsigned room = *count;
    *count = collect_busy(card_of(device), false, rows);
    if (!*count || getenv("FAKE_NO_NVML_PIDS"))
        return NVML_ERROR_NOT_FOUND;
    if (*count > room)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++)
        list[i] = (nvmlProcessUtilizationSample_t){ .pid = rows[i].pid, .timeStamp = fake_now() / 1000, .smUtil = (unsigned)rows[i].used };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_v1_t *list)
{
    struct row rows[FAKE_QUEUES];
    unsigned room = list->processSamplesCount;
    list->processSamplesCount = collect_busy(card_of(device), false, rows);
    if (list->processSamplesCount > room)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < list->processSamplesCount; i++)
        list->procUtilArray[i] = (nvmlProcessUtilizationInfo_v1_t){ .pid = rows[i].pid, .smUtil = (unsigned)rows[i].used };
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, int type, unsigned long long since, int *value, unsigned int *count, void *samples)
{
    (void)device; (void)type; (void)since; (void)value; (void)samples;
    *count = 0;
    return NVML_SUCCESS;
}
