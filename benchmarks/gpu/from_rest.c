/*
 * from_rest: how long a kernel seems to take by events around its launch on an idle card, as the limiter measures one that
 * the host launches from rest, and how long it does take (ten of them in a row). A JSON line for each length, in us:
 *   {"kernel": K, "from_rest": R, "read": W, "seen": S, "host": H, "charged": C, "least": L}
 * read: until the card was seen to have read the event in front, as the limiter waits for it; seen: in what part of the
 * tries within that time. host: from then to the end of the launch. charged: what the limiter makes of each of those, in
 * the middle, and at the lower end (a tenth is less). Where L is less than K, too much is taken off.
 */
#include "arbiter/decide.h"
#include "gpu.h"

#define TRIES 200
#define READ_S 4e-6 /* KERF_READ_NS of the limiter */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value below which so many permille of them are; 0: there is none. */
static double at(double *values, int count, int permille)
{
    qsort(values, (size_t)count, sizeof *values, by_size);
    return count ? values[count * permille / 1000] : 0;
}

/* From when the card was seen to have read it; 0: not in time. */
static double wait_until_read(CUevent event)
{
    for (double asked = now_s(), end = asked + READ_S; asked < end; asked = now_s())
        if (cuEventQuery(event) == CUDA_SUCCESS)
            return asked;
    return 0;
}

int main(void)
{
    static const double lengths[] = { 2e3, 5e3, 10e3, 20e3, 50e3 };
    double seemed[TRIES], read[TRIES], host[TRIES], charged[TRIES];
    CUevent from, to;
    open_card();
    must(cuEventCreate(&from, 0), "cuEventCreate");
    must(cuEventCreate(&to, 0), "cuEventCreate");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct work work = make_work(lengths[i], 0);
        double kernel = measure(&work);
        uint64_t usual = 0;
        int seen = 0;
        for (int try = 0; try < TRIES; try++) {
            float ms = 0;
            usleep(100);
            must(cuEventRecord(from, NULL), "record");
            double recorded = now_s(), asked = wait_until_read(from);
            must(launch_work(&work, NULL), "launch");
            double returned = now_s();
            must(cuEventRecord(to, NULL), "record");
            must(cuCtxSynchronize(), "synchronize");
            must(cuEventElapsedTime(&ms, from, to), "elapsed");
            seemed[try] = (double)ms * 1e3;
            if (asked == 0)
                continue;
            struct kerf_rested launch = { (uint64_t)((double)ms * 1e6), (uint64_t)((returned - asked) * 1e9), usual };
            read[seen] = (asked - recorded) * 1e6;
            host[seen] = (returned - asked) * 1e6;
            charged[seen++] = (double)kerf_decide_from_rest(&launch).ns / 1e3;
            usual = kerf_decide_usual(usual, launch.host_ns);
        }
        printf("{\"kernel\": %.2f, \"from_rest\": %.2f, \"read\": %.2f, \"seen\": %.2f, \"host\": %.2f, \"charged\": %.2f, \"least\": %.2f}\n",
               kernel / 1e3, at(seemed, TRIES, 500), at(read, seen, 500), (double)seen / TRIES, at(host, seen, 500), at(charged, seen, 500), at(charged, seen, 100));
    }
    return 0;
}
