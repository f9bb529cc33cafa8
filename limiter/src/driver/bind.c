/*
 * From symbol to wrapper and back. The real driver is always asked first; what it answers is turned
 * into our wrapper of that exact ABI variant, or left alone when we have none.
 */
#include <dlfcn.h>
#include <string.h>

#include "driver/driver.h"

struct kerf_real kerf_real;
static int cuda_bound, nvml_bound, bound_by_address;

enum library { CUDA, NVML };

struct hook {
    const char *symbol;
    const char *base;  /* name cuGetProcAddress knows it by; NULL: only called, not taken over */
    int version;
    int stream;
    enum library library;
    void *wrapper;
    size_t slot; /* of the real function in struct kerf_real */
};

#define CUDA_HOOK(symbol, base, version, stream, params) \
    { #symbol, #base, version, stream, CUDA, (void *)symbol, offsetof(struct kerf_real, symbol) },
#define CUDA_NEED(symbol, params) { #symbol, NULL, 0, 0, CUDA, NULL, offsetof(struct kerf_real, symbol) },
#define NVML_HOOK(symbol, params) { #symbol, NULL, 0, 0, NVML, (void *)symbol, offsetof(struct kerf_real, symbol) },
#define NVML_NEED(symbol, params) { #symbol, NULL, 0, 0, NVML, NULL, offsetof(struct kerf_real, symbol) },
static const struct hook hooks[] = {
#include "driver/hooks.def"
};
#undef CUDA_HOOK
#undef CUDA_NEED
#undef NVML_HOOK
#undef NVML_NEED

#define HOOKS (sizeof hooks / sizeof *hooks)

/*
 * Real address to wrapper: open addressing, never shrinking. Binding takes no lock, because it runs
 * inside look-ups that may come from a constructor under the loader's own lock; every thread that
 * binds writes the same values.
 */
#define ADDRESSES 1024 /* a power of two, well above two addresses a hook */
static struct {
    void *real;
    void *wrapper;
} by_address[ADDRESSES];

/* Name to hook; filling it twice at once is harmless, the order decides every place. */
#define NAMES 512
static const struct hook *by_name[NAMES];
static int names_ready;

static int missing_cuda(void)
{
    return CUDA_ERROR_NOT_FOUND;
}

static int missing_nvml(void)
{
    return NVML_ERROR_FUNCTION_NOT_FOUND;
}

bool kerf_has(const void *function)
{
    return function && function != (const void *)missing_cuda && function != (const void *)missing_nvml;
}

static unsigned hash_name(const char *name)
{
    unsigned hash = 2166136261u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash;
}

static void fill_names(void)
{
    for (size_t i = 0; i < HOOKS; i++) {
        unsigned at = hash_name(hooks[i].symbol) % NAMES;
        const struct hook *taken;
        while ((taken = __atomic_load_n(&by_name[at], __ATOMIC_RELAXED)) && taken != &hooks[i])
            at = (at + 1) % NAMES;
        __atomic_store_n(&by_name[at], &hooks[i], __ATOMIC_RELEASE);
    }
    __atomic_store_n(&names_ready, 1, __ATOMIC_RELEASE);
}

static const struct hook *find_name(const char *name)
{
    if (!__atomic_load_n(&names_ready, __ATOMIC_ACQUIRE))
        fill_names();
    unsigned at = hash_name(name) % NAMES;
    const struct hook *hook;
    while ((hook = __atomic_load_n(&by_name[at], __ATOMIC_ACQUIRE))) {
        if (strcmp(hook->symbol, name) == 0)
            return hook;
        at = (at + 1) % NAMES;
    }
    return NULL;
}

static unsigned hash_address(const void *address)
{
    return (unsigned)(((uintptr_t)address * 0x9e3779b97f4a7c15ULL) >> 40);
}

static void remember(void *real, void *wrapper)
{
    if (!wrapper || real == wrapper || !kerf_has(real))
        return;
    unsigned at = hash_address(real) % ADDRESSES;
    for (int i = 0; i < ADDRESSES; i++, at = (at + 1) % ADDRESSES) {
        void *none = NULL;
        if (__atomic_compare_exchange_n(&by_address[at].real, &none, real, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            __atomic_store_n(&by_address[at].wrapper, wrapper, __ATOMIC_RELEASE);
        else if (none != real)
            continue;
        return; /* known already: of two names of one function either wrapper has its ABI */
    }
}

void *kerf_wrapper_by_address(void *real)
{
    unsigned at = hash_address(real) % ADDRESSES;
    for (int i = 0; i < ADDRESSES; i++, at = (at + 1) % ADDRESSES) {
        void *known = __atomic_load_n(&by_address[at].real, __ATOMIC_ACQUIRE);
        if (!known)
            return NULL;
        if (known != real)
            continue;
        void *wrapper;
        while (!(wrapper = __atomic_load_n(&by_address[at].wrapper, __ATOMIC_ACQUIRE)))
            ; /* the other half is one store away */
        return wrapper;
    }
    return NULL;
}

static void **slot_of(const struct hook *hook)
{
    return (void **)((char *)&kerf_real + hook->slot);
}

void *kerf_wrapper_by_name(const char *name, void **real)
{
    const struct hook *hook = find_name(name);
    if (!hook || !hook->wrapper)
        return NULL;
    *real = __atomic_load_n(slot_of(hook), __ATOMIC_ACQUIRE);
    return hook->wrapper;
}

static void bind(enum library library, void *handle, void *missing)
{
    /* Backwards: should two versions of a call share one address, the newer one's wrapper is right. */
    for (size_t i = HOOKS; i-- > 0;) {
        if (hooks[i].library != library)
            continue;
        void *real = handle ? kerf_find_real(handle, hooks[i].symbol) : NULL;
        if (real == hooks[i].wrapper)
            real = NULL; /* our own export, seen through RTLD_DEFAULT */
        __atomic_store_n(slot_of(&hooks[i]), real ? real : missing, __ATOMIC_RELEASE);
        remember(real, hooks[i].wrapper);
    }
}

/* The library that is loaded, else `handle`, else (if `load`) the one the system has. False: none. */
static bool bind_library(enum library library, const char *file, void *handle, bool load)
{
    void *loaded = dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
    if (!loaded)
        loaded = handle;
    if (!loaded && load)
        loaded = dlopen(file, RTLD_LAZY);
    if (loaded || load)
        bind(library, loaded, library == CUDA ? (void *)missing_cuda : (void *)missing_nvml);
    return loaded || load;
}

void kerf_bind_cuda(void *handle, bool load)
{
    if (!__atomic_load_n(&cuda_bound, __ATOMIC_ACQUIRE) && bind_library(CUDA, "libcuda.so.1", handle, load))
        __atomic_store_n(&cuda_bound, 1, __ATOMIC_RELEASE);
}

void kerf_bind_nvml(void *handle, bool load)
{
    if (!__atomic_load_n(&nvml_bound, __ATOMIC_ACQUIRE) && bind_library(NVML, "libnvidia-ml.so.1", handle, load))
        __atomic_store_n(&nvml_bound, 1, __ATOMIC_RELEASE);
}

/* Some drivers answer look-ups with addresses that are not their exported ones: learn those too. */
static void learn_addresses(void)
{
    if (__atomic_load_n(&bound_by_address, __ATOMIC_ACQUIRE))
        return;
    for (size_t i = 0; i < HOOKS; i++) {
        void *real = NULL;
        if (!hooks[i].base)
            continue;
        uint64_t flags = (uint64_t)hooks[i].stream;
        int status;
        bool v2 = kerf_has((const void *)kerf_real.cuGetProcAddress_v2);
        CUresult rc = v2 ? kerf_real.cuGetProcAddress_v2(hooks[i].base, &real, hooks[i].version, flags, &status)
                         : kerf_real.cuGetProcAddress(hooks[i].base, &real, hooks[i].version, flags);
        if (rc == CUDA_SUCCESS)
            remember(real, hooks[i].wrapper);
    }
    __atomic_store_n(&bound_by_address, 1, __ATOMIC_RELEASE);
}

/* A variant newer than this list would slip past the limits: let it through, but never unseen. */
static void note_unknown(const char *name, const void *real)
{
    if (!real || kerf.stage < KERF_STAGE_OPEN)
        return;
    for (size_t i = 0; i < HOOKS; i++) {
        if (hooks[i].base && strcmp(hooks[i].base, name) == 0) {
            kerf_count(KERF_EVENT_UNKNOWN_ABI);
            return;
        }
    }
}

static void substitute(const char *name, void **out)
{
    void *wrapper = *out ? kerf_wrapper_by_address(*out) : NULL;
    if (wrapper)
        *out = wrapper;
    else
        note_unknown(name, *out);
}

CUresult cuGetProcAddress(const char *name, void **out, int version, uint64_t flags)
{
    kerf_open();
    learn_addresses();
    CUresult rc = kerf_real.cuGetProcAddress(name, out, version, flags);
    if (rc == CUDA_SUCCESS && name && out)
        substitute(name, out);
    return rc;
}

CUresult cuGetProcAddress_v2(const char *name, void **out, int version, uint64_t flags, int *status)
{
    kerf_open();
    learn_addresses();
    CUresult rc = kerf_real.cuGetProcAddress_v2(name, out, version, flags, status);
    if (rc == CUDA_SUCCESS && name && out)
        substitute(name, out);
    return rc;
}
