/*
 * facts: what you must know about this machine before you trust its numbers, as one JSON object:
 * whether cuGetProcAddress returns the exported addresses, and what NVML reports about processes.
 */
#include "gpu.h"

struct variant {
    const char *symbol, *base;
    int version, stream;
};

#define CUDA_HOOK(symbol, base, version, stream, params) { #symbol, #base, version, stream },
#define CUDA_NEED(symbol, params)
#define NVML_HOOK(symbol, params)
#define NVML_NEED(symbol, params)
static const struct variant variants[] = {
#include "driver/hooks.def"
};

static void pointer_identity(void *cuda)
{
    CUresult (*look_up)(const char *, void **, int, uint64_t, int *) =
        (CUresult(*)(const char *, void **, int, uint64_t, int *))dlsym(cuda, "cuGetProcAddress_v2");
    int same = 0, differ = 0, missing = 0;
    printf("\"differ\": [");
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        void *exported = dlsym(cuda, variants[i].symbol), *told = NULL;
        int status = 0;
        CUresult rc = look_up(variants[i].base, &told, variants[i].version, (uint64_t)variants[i].stream, &status);
        if (!exported || rc || !told) {
            missing++;
            printf("%s\"%s: exported %d, rc %d, status %d\"", differ + missing > 1 ? ", " : "", variants[i].symbol, exported != NULL, rc, status);
        } else if (exported != told) {
            differ++;
            printf("%s\"%s\"", differ + missing > 1 ? ", " : "", variants[i].symbol);
        } else {
            same++;
        }
    }
    printf("], \"same_address\": %d, \"different_address\": %d, \"not_there\": %d", same, differ, missing);
}

#define ROOM 256 /* with 64, an H100's driver answers "insufficient size" for one process */

static void nvml_facts(void)
{
    void *nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    nvmlReturn_t (*init)(void) = nvml ? (nvmlReturn_t(*)(void))dlsym(nvml, "nvmlInit_v2") : NULL;
    nvmlDevice_t device;
    nvmlProcessInfo_v2_t list[ROOM];
    nvmlProcessUtilizationSample_t samples[ROOM];
    unsigned count = ROOM, sampled = ROOM, found = 0;
    if (!init || init() != NVML_SUCCESS) {
        printf(", \"nvml\": \"cannot be used\"");
        return;
    }
    ((nvmlReturn_t(*)(unsigned, nvmlDevice_t *))dlsym(nvml, "nvmlDeviceGetHandleByIndex_v2"))(0, &device);
    double from = now_s();
    nvmlReturn_t rc = ((nvmlReturn_t(*)(nvmlDevice_t, unsigned *, nvmlProcessInfo_v2_t *))dlsym(nvml, "nvmlDeviceGetComputeRunningProcesses_v3"))(device, &count, list);
    double list_ms = (now_s() - from) * 1e3;
    for (unsigned i = 0; !rc && i < count; i++)
        found |= list[i].pid == (unsigned)getpid() ? 1 + (list[i].usedGpuMemory != UINT64_MAX) : 0;
    from = now_s();
    nvmlReturn_t rc2 = ((nvmlReturn_t(*)(nvmlDevice_t, nvmlProcessUtilizationSample_t *, unsigned *, unsigned long long))dlsym(nvml, "nvmlDeviceGetProcessUtilization"))(device, samples, &sampled, 0);
    printf(", \"nvml_list\": {\"rc\": %d, \"rows\": %u, \"own_pid\": \"%s\", \"ms\": %.2f}", rc, count, found == 2 ? "with memory" : found ? "without memory" : "absent", list_ms);
    printf(", \"nvml_utilisation\": {\"rc\": %d, \"samples\": %u, \"ms\": %.2f}", rc2, rc2 ? 0 : sampled, (now_s() - from) * 1e3);
}

int main(void)
{
    open_card();
    struct work work = make_work(1e6, 0);
    double from = now_s();
    while (now_s() < from + 1.5)
        launch_work(&work, NULL), cuCtxSynchronize();
    printf("{");
    pointer_identity(dlopen("libcuda.so.1", RTLD_NOW));
    nvml_facts();
    CUevent event;
    from = now_s();
    must(cuEventCreate(&event, 0), "cuEventCreate");
    for (int i = 0; i < 1000; i++)
        cuEventRecord(event, NULL);
    printf(", \"marker_us\": %.2f, \"iterations_per_ms\": %llu}\n", (now_s() - from) * 1e3, work.iterations);
    return 0;
}
