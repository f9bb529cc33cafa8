/* The ledger file: mapping it, living in a slot of it, and charging memory. No driver calls here. */
#ifndef KERF_LEDGER_LAYER_H
#define KERF_LEDGER_LAYER_H

#include "base/base.h"

/* ledger.c */
KERF_MUST_CHECK struct kerf_ledger *kerf_ledger_map(const char *path, const char **why);
KERF_MUST_CHECK int kerf_slot_claim(struct kerf_ledger *ledger); /* the calling thread keeps it alive */
void kerf_slot_sweep(struct kerf_ledger *ledger, int own);
KERF_MUST_CHECK bool kerf_slot_move(struct kerf_ledger *ledger, unsigned slot, unsigned card, int64_t delta, uint64_t limit);
void kerf_slot_recover(struct kerf_ledger *ledger, unsigned slot);
uint64_t kerf_charged(const struct kerf_ledger *ledger, unsigned card);

/*
 * account.c: what this process may take. A reserve that does not fit asks every reclaimer to give back
 * idle memory before it is refused; the layers above list theirs (the array ends with NULL).
 */
typedef void (*kerf_reclaimer)(void);
extern const kerf_reclaimer kerf_reclaimers[];

KERF_MUST_CHECK bool kerf_reserve(int card, uint64_t bytes, enum kerf_kind kind);
KERF_MUST_CHECK bool kerf_reserve_plain(int card, uint64_t bytes, enum kerf_kind kind); /* without asking the reclaimers */
void kerf_force(int card, uint64_t bytes, enum kerf_kind kind); /* charge even above the limit: it is already used */
void kerf_release(int card, uint64_t bytes, enum kerf_kind kind);
void kerf_pending_add(int card, uint64_t bytes); /* for a call under way: the driver may hold the bytes already, or not yet */
void kerf_pending_take(int card, uint64_t bytes);
uint64_t kerf_pending_of(int card);
void kerf_growing_begin(int card); /* a call in which the driver may take more than was reserved for it ... */
void kerf_growing_end(int card);   /* ... until what it took is charged */
bool kerf_grows(int card);
uint64_t kerf_kind_of(int card, enum kerf_kind kind); /* charged by this process */
void kerf_account_child(void); /* in a forked child: nothing is charged yet */

/* Bytes as the driver hands them out: small blocks packed, larger ones in whole 2 MiB pages. */
uint64_t kerf_round(uint64_t bytes);
#define KERF_LARGEST (1ULL << (KERF_CHARGED_BITS - 1)) /* more than this is never granted */

#endif
