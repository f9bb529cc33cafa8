/* What the layers below call without knowing it: every room, and everything that can give back idle memory. */
#include "cuda/cuda.h"

const struct kerf_room *const kerf_rooms[] = {
    &kerf_device_room, &kerf_pool_room, &kerf_vmm_room, &kerf_graph_room, &kerf_overhead_room, &kerf_gate_room, NULL,
};

const kerf_reclaimer kerf_reclaimers[] = { kerf_pools_reclaim, kerf_graph_settle, NULL };
