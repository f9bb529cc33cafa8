/* What launches cost is kept by kernel and grid: a program has hundreds of them, and none may make another one unknown. */
#include "check.h"
#include "cuda/gate.h"

#define KEYS 1000

static uint64_t key(uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull; /* splitmix64: spread over the table by chance, so that some meet in a slot */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static void hundreds_of_kernels_are_known_at_once(void)
{
    kerf_cost_forget_all();
    for (uint64_t i = 0; i < KEYS; i++)
        kerf_cost_learn(key(i), 1000 + i, true);
    for (uint64_t i = 0; i < KEYS; i++)
        CHECK(kerf_cost_of(key(i)) == 1000 + i);
}

static void kernels_whose_keys_meet_keep_what_each_costs(void)
{
    uint64_t one = 77ull << 51 | 1, other = 77ull << 51 | 2;
    kerf_cost_forget_all();
    CHECK(kerf_cost_of(one) == 0);
    for (int i = 0; i < 10; i++) {
        kerf_cost_learn(one, 5000, true);
        kerf_cost_learn(other, 9000, true);
    }
    CHECK(kerf_cost_of(one) == 5000 && kerf_cost_of(other) == 9000);
}

static void a_full_neighbourhood_forgets_one_and_keeps_the_rest(void)
{
    int known = 0;
    kerf_cost_forget_all();
    for (uint64_t i = 1; i <= 9; i++)
        kerf_cost_learn(77ull << 51 | i, 100 * i, true);
    for (uint64_t i = 1; i <= 9; i++)
        known += kerf_cost_of(77ull << 51 | i) == 100 * i;
    CHECK(known == 8);
}

int main(void)
{
    hundreds_of_kernels_are_known_at_once();
    kernels_whose_keys_meet_keep_what_each_costs();
    a_full_neighbourhood_forgets_one_and_keeps_the_rest();
    FINISH();
}
