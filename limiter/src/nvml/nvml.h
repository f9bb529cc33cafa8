/* NVML: what it says about this process, and what we let it say to others. */
#ifndef KERF_NVML_LAYER_H
#define KERF_NVML_LAYER_H

#include "driver/driver.h"
#include "ledger/ledger.h"

/* own.c: this process as NVML sees it */
KERF_MUST_CHECK bool kerf_own_memory(int card, uint64_t *bytes);
KERF_MUST_CHECK bool kerf_own_busy(int card, uint64_t since_us, unsigned *percent);
KERF_MUST_CHECK bool kerf_pid_is_ours(unsigned pid);
nvmlDevice_t kerf_nvml_device(int card);
int kerf_card_of_nvml(nvmlDevice_t device);

/* overhead.c: what the driver holds beyond single allocations */
void kerf_overhead_refresh(void);       /* all cards; the pacer calls it now and then */
void kerf_overhead_context(int card);   /* before the first allocation in a context on this card */
extern const struct kerf_room kerf_overhead_room;

#endif
