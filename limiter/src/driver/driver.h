/* The real driver behind us: its functions, how look-ups find ours, and coming alive in a process. */
#ifndef KERF_DRIVER_LAYER_H
#define KERF_DRIVER_LAYER_H

#include "base/base.h"
#include "kerf/cuda_abi.h"

/* The driver's own functions, as hooks.def lists them. */
struct kerf_real {
#define CUDA_HOOK(symbol, base, version, stream, params) CUresult(*symbol) params;
#define CUDA_NEED(symbol, params) CUresult(*symbol) params;
#define NVML_HOOK(symbol, params) nvmlReturn_t(*symbol) params;
#define NVML_NEED(symbol, params) nvmlReturn_t(*symbol) params;
#include "driver/hooks.def"
#undef CUDA_HOOK
#undef CUDA_NEED
#undef NVML_HOOK
#undef NVML_NEED
};

extern struct kerf_real kerf_real;

/* Ours. bind.c takes their addresses; the layers nvml and cuda define them. */
#define CUDA_HOOK(symbol, base, version, stream, params) KERF_EXPORT CUresult symbol params;
#define CUDA_NEED(symbol, params)
#define NVML_HOOK(symbol, params) KERF_EXPORT nvmlReturn_t symbol params;
#define NVML_NEED(symbol, params)
#include "driver/hooks.def"
#undef CUDA_HOOK
#undef CUDA_NEED
#undef NVML_HOOK
#undef NVML_NEED

/* bind.c */
void kerf_bind_cuda(void *handle, bool load);
void kerf_bind_nvml(void *handle, bool load);
void *kerf_wrapper_by_name(const char *name, void **real);
void *kerf_wrapper_by_address(void *real);
KERF_MUST_CHECK bool kerf_has(const void *function);

/* symbols.c */
extern void *kerf_real_dlsym;
extern void *kerf_real_dlvsym;
void *kerf_find_real(void *handle, const char *name);
void kerf_resolve_symbols(void);
int kerf_takes_over(const char *name);
void *kerf_dlsym(void *handle, const char *name);
void *kerf_dlvsym(void *handle, const char *name, const char *version);

/*
 * A room has state of its own that follows the process's life. start.c calls every room that the
 * layers above list; a member may be NULL. The array ends with NULL.
 */
struct kerf_room {
    void (*open)(void);  /* the ledger is about to be mapped, or this is a forked child */
    void (*live)(void);  /* before the process takes its slot */
    void (*run)(void);   /* in the thread that holds the slot, until the process ends; one room has it */
    void (*leave)(void); /* atexit: no driver calls from here on */
};
extern const struct kerf_room *const kerf_rooms[];

/* start.c */
void kerf_start(void);       /* bind CUDA and look for the ledger */
void kerf_open_ledger(void); /* the latter alone; after it kerf.stage is not NEW */
KERF_MUST_CHECK bool kerf_go_live(void); /* take a slot; false: passing, or closed */

static inline void kerf_open(void)
{
    if (unlikely(!__atomic_load_n(&kerf.open, __ATOMIC_ACQUIRE)))
        kerf_start();
}

#endif
