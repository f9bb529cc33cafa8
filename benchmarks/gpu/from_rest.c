/*
 * from_rest: how long a kernel seems to take by events around its launch on an idle card, as the limiter measures one that
 * the host launches from rest, and how long it does take (ten of them in a row). A JSON line for each length, in us:
 *   {"kernel": K, "from_rest": R, "host": H}
 * host: from the end of the first record to the end of the launch. If R - H is about K, that gap can be taken off.
 */
#include "gpu.h"

#define TRIES 200

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, TRIES, sizeof *values, by_size);
    return values[TRIES / 2];
}

int main(void)
{
    static const double lengths[] = { 2e3, 5e3, 10e3, 20e3, 50e3 };
    double seen[TRIES], host[TRIES];
    CUevent from, to;
    open_card();
    must(cuEventCreate(&from, 0), "cuEventCreate");
    must(cuEventCreate(&to, 0), "cuEventCreate");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct work work = make_work(lengths[i], 0);
        double kernel = measure(&work);
        for (int try = 0; try < TRIES; try++) {
            float ms = 0;
            usleep(100);
            must(cuEventRecord(from, NULL), "record");
            double recorded = now_s();
            must(launch_work(&work, NULL), "launch");
            host[try] = (now_s() - recorded) * 1e6;
            must(cuEventRecord(to, NULL), "record");
            must(cuCtxSynchronize(), "synchronize");
            must(cuEventElapsedTime(&ms, from, to), "elapsed");
            seen[try] = (double)ms * 1e3;
        }
        printf("{\"kernel\": %.2f, \"from_rest\": %.2f, \"host\": %.2f}\n", kernel / 1e3, median(seen), median(host));
    }
    return 0;
}
