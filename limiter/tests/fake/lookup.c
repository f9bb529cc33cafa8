/* cuGetProcAddress as the real driver answers it: by version and by stream flavour. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "driver.h"

struct variant {
    const char *base;
    int version, stream;
    void *function;
};

#define CUDA_HOOK(symbol, base, version, stream, params) { #base, version, stream, (void *)symbol },
#define CUDA_NEED(symbol, params)
#define NVML_HOOK(symbol, params)
#define NVML_NEED(symbol, params)
static const struct variant variants[] = {
#include "driver/hooks.def"
    { "cuCtxCreate", 3020, 1, (void *)cuCtxCreate_v2 },
    { "cuCtxSetCurrent", 4000, 1, (void *)cuCtxSetCurrent },
    { "cuCtxGetCurrent", 4000, 1, (void *)cuCtxGetCurrent },
    { "cuCtxGetDevice", 2000, 1, (void *)cuCtxGetDevice },
    { "cuDeviceGet", 2000, 1, (void *)cuDeviceGet },
    { "cuDeviceGetCount", 2000, 1, (void *)cuDeviceGetCount },
    { "cuDeviceGetUuid", 11040, 1, (void *)cuDeviceGetUuid_v2 },
    { "cuDriverGetVersion", 2020, 1, (void *)cuDriverGetVersion },
    { "cuGetExportTable", 3000, 1, (void *)cuGetExportTable },
    { "cuStreamCreate", 2000, 1, (void *)cuStreamCreate },
    { "cuMemAddressReserve", 10020, 1, (void *)cuMemAddressReserve },
};
#define VARIANTS (sizeof variants / sizeof *variants)

CUresult cuGetExportTable(const void **table, const CUuuid *id)
{
    (void)id;
    *table = NULL;
    return CUDA_ERROR_NOT_FOUND;
}

/* A harmless function of its own address for every name the fake does not have. */
static void *stub_for(const char *name, int version, uint64_t flags)
{
    static char names[2048][64];
    static unsigned char *code;
    char key[64];
    snprintf(key, sizeof key, "%.48s/%d/%d", name, version, (int)flags);
    if (!code) {
        code = mmap(NULL, 2048 * 16, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (code == MAP_FAILED)
            abort();
        for (int i = 0; i < 2048; i++)
            memcpy(code + i * 16, "\x31\xc0\xc3", 3); /* xor %eax,%eax; ret */
    }
    for (int i = 0; i < 2048; i++) {
        if (!names[i][0])
            strcpy(names[i], key);
        if (strcmp(names[i], key) == 0)
            return code + i * 16;
    }
    return code;
}

static const struct variant *find(const char *name, int version, int stream)
{
    const struct variant *best = NULL;
    for (size_t i = 0; i < VARIANTS; i++) {
        const struct variant *v = &variants[i];
        if (v->stream == stream && v->version <= version && strcmp(v->base, name) == 0 && (!best || v->version > best->version))
            best = v;
    }
    return best;
}

static bool known(const char *name)
{
    for (size_t i = 0; i < VARIANTS; i++)
        if (strcmp(variants[i].base, name) == 0)
            return true;
    return false;
}

CUresult cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags, int *status)
{
    if (!name || !out)
        return CUDA_ERROR_INVALID_VALUE;
    if (getenv("FAKE_LOG"))
        fprintf(stderr, "lookup %s %d %d\n", name, version, (int)flags);
    const struct variant *v = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM ? find(name, version, 2) : NULL;
    v = v ? v : find(name, version, 1);
    int found = v || (!known(name) && strncmp(name, "cu", 2) == 0 && !strstr(name, "NoSuch"));
    *out = v ? v->function : found ? stub_for(name, version, flags) : NULL;
    if (status)
        *status = found ? 0 : known(name) ? 2 : 1;
    return found || status ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult cuGetProcAddress(const char *name, void **out, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, out, version, flags, NULL);
}
