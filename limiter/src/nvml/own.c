/*
 * This process, container and card as NVML knows them. NVML may tell PIDs as the host numbers them;
 * the agent writes those into our slots, so both numbers count as ours.
 */
#include <string.h>
#include <unistd.h>

#include "nvml/nvml.h"

#define LIST_MAX 256

static struct {
    pthread_mutex_t lock;
    int state; /* 0 not tried, 1 up, -1 not to be had */
    nvmlDevice_t devices[KERF_CARDS_MAX];
} nvml = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int start_nvml(void)
{
    kerf_bind_nvml(NULL, true);
    return kerf_real.nvmlInit_v2() == NVML_SUCCESS ? 1 : -1;
}

/* A record named by its number means the n-th visible CUDA device; without an UUID NVML cannot follow a mask. */
static nvmlDevice_t look_up(int card)
{
    nvmlDevice_t device = NULL;
    const char *uuid = kerf.ledger->cards[card].uuid;
    if (uuid[0] >= '0' && uuid[0] <= '9' && !strchr(uuid, '-')) {
        unsigned index = (unsigned)(uuid[0] - '0');
        return kerf_real.nvmlDeviceGetHandleByIndex_v2(index, &device) == NVML_SUCCESS ? device : NULL;
    }
    return kerf_real.nvmlDeviceGetHandleByUUID(uuid, &device) == NVML_SUCCESS ? device : NULL;
}

nvmlDevice_t kerf_nvml_device(int card)
{
    pthread_mutex_lock(&nvml.lock);
    if (!nvml.state)
        nvml.state = start_nvml();
    if (nvml.state > 0 && !nvml.devices[card])
        nvml.devices[card] = look_up(card);
    nvmlDevice_t device = nvml.state > 0 ? nvml.devices[card] : NULL;
    pthread_mutex_unlock(&nvml.lock);
    return device;
}

int kerf_card_of_nvml(nvmlDevice_t device)
{
    char uuid[96] = "";
    if (kerf.stage < KERF_STAGE_OPEN || kerf_real.nvmlDeviceGetUUID(device, uuid, sizeof uuid) != NVML_SUCCESS)
        return KERF_NO_CARD;
    for (unsigned i = 0; i < kerf.ledger->header.card_count; i++) {
        const char *name = kerf.ledger->cards[i].uuid;
        nvmlDevice_t by_number = NULL;
        if (strcmp(name, uuid) == 0)
            return (int)i;
        if (!strchr(name, '-') && kerf_real.nvmlDeviceGetHandleByIndex_v2((unsigned)(name[0] - '0'), &by_number) == NVML_SUCCESS && by_number == device)
            return (int)i;
    }
    return KERF_NO_CARD;
}

bool kerf_pid_is_ours(unsigned pid)
{
    for (unsigned i = 0; pid && kerf.ledger && i < KERF_SLOTS; i++) {
        const struct kerf_slot *slot = &kerf.ledger->slots[i];
        int own = __atomic_load_n(&slot->pid, __ATOMIC_RELAXED);
        if (own && ((unsigned)own == pid || (unsigned)__atomic_load_n(&slot->host_pid, __ATOMIC_RELAXED) == pid))
            return true;
    }
    return false;
}

static bool is_this_process(unsigned pid)
{
    int host = __atomic_load_n(&kerf.ledger->slots[kerf.slot].host_pid, __ATOMIC_RELAXED);
    return pid == (unsigned)(host ? host : kerf.pid);
}

static bool own_in(nvmlDevice_t device, nvmlReturn_t (*list)(nvmlDevice_t, unsigned *, nvmlProcessInfo_v2_t *), uint64_t *bytes)
{
    nvmlProcessInfo_v2_t found[LIST_MAX];
    unsigned count = LIST_MAX;
    if (!kerf_has((const void *)list) || list(device, &count, found) != NVML_SUCCESS)
        return false;
    for (unsigned i = 0; i < count && i < LIST_MAX; i++) {
        if (!is_this_process(found[i].pid) || found[i].usedGpuMemory == UINT64_MAX) /* UINT64_MAX: not available */
            continue;
        *bytes = found[i].usedGpuMemory;
        return true;
    }
    return false;
}

/* Bytes of the card's memory that the driver holds for this process; false when NVML does not say. */
bool kerf_own_memory(int card, uint64_t *bytes)
{
    nvmlDevice_t device = kerf.slot >= 0 ? kerf_nvml_device(card) : NULL;
    if (!device)
        return false;
    return own_in(device, kerf_real.nvmlDeviceGetComputeRunningProcesses_v3, bytes) ||
           own_in(device, kerf_real.nvmlDeviceGetComputeRunningProcesses_v2, bytes);
}

/* Percent of the card's time this container's processes had it since `since_us`, by NVML's samples. */
bool kerf_own_busy(int card, uint64_t since_us, unsigned *percent)
{
    nvmlProcessUtilizationSample_t found[LIST_MAX];
    unsigned count = LIST_MAX, sum = 0, ours = 0;
    nvmlDevice_t device = kerf_nvml_device(card);
    if (!device || !kerf_has((const void *)kerf_real.nvmlDeviceGetProcessUtilization) ||
        kerf_real.nvmlDeviceGetProcessUtilization(device, found, &count, since_us) != NVML_SUCCESS)
        return false;
    for (unsigned i = 0; i < count && i < LIST_MAX; i++) {
        if (!kerf_pid_is_ours(found[i].pid))
            continue;
        sum += found[i].smUtil;
        ours++;
    }
    *percent = sum > 100 ? 100 : sum;
    return ours > 0;
}
