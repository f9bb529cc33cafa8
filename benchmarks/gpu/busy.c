/*
 * busy MODE KERNEL_NS START SECONDS [ITERATIONS]: from START (CLOCK_MONOTONIC seconds, 0 = now) keeps the
 * card busy and counts the work done in each second.
 *   {"bins": [n, ...], "done": n, "seconds": s, "iterations": i, "kernel_ns": t}
 * stream: launches as fast as possible; sync: waits after each; graph: graphs of 50 kernels;
 * late: stream, but idle for the first half.
 */
#include "gpu.h"

#define WINDOW 64 /* units in flight before we wait for the oldest */
#define GRAPH_KERNELS 50

static struct work work;
static CUstream stream;
static CUgraphExec exec;
static CUevent events[WINDOW];

static void make_graph(void)
{
    CUgraph graph;
    must(cuStreamBeginCapture_v2(stream, 0), "cuStreamBeginCapture");
    for (int i = 0; i < GRAPH_KERNELS; i++)
        must(launch_work(&work, stream), "launch");
    must(cuStreamEndCapture(stream, &graph), "cuStreamEndCapture");
    must(cuGraphInstantiateWithFlags(&exec, graph, 0), "cuGraphInstantiate");
}

/* One unit of work: enough kernels that counting them costs nothing, at most a few milliseconds. */
static void unit(const char *mode, int kernels)
{
    if (!strcmp(mode, "graph")) {
        must(cuGraphLaunch(exec, stream), "cuGraphLaunch");
        return;
    }
    for (int i = 0; i < kernels; i++) {
        must(launch_work(&work, stream), "launch");
        if (!strcmp(mode, "sync"))
            must(cuStreamSynchronize(stream), "synchronize");
    }
}

static void wait_for(CUevent event)
{
    CUresult rc;
    while ((rc = cuEventQuery(event)) == CUDA_ERROR_NOT_READY)
        usleep(50);
    must(rc, "cuEventQuery");
}

static void say(const unsigned long *bins, int seconds, int kernels, unsigned long done, double took)
{
    printf("{\"bins\": [");
    for (int i = 0; i < seconds; i++)
        printf("%s%lu", i ? ", " : "", bins[i] * (unsigned long)kernels);
    printf("], \"done\": %lu, \"seconds\": %.4f, \"iterations\": %llu}\n", done * (unsigned long)kernels, took, work.iterations);
}

int main(int argc, char **argv)
{
    const char *mode = argv[1];
    double ns = atof(argv[2]), start = atof(argv[3]), seconds = atof(argv[4]);
    unsigned long bins[600] = { 0 }, sent = 0, done = 0;
    open_card();
    must(cuStreamCreate(&stream, 1), "cuStreamCreate");
    work = make_work(ns, argc > 5 ? strtoull(argv[5], NULL, 10) : 0);
    int kernels = !strcmp(mode, "graph") ? GRAPH_KERNELS : ns < 1e6 ? (int)(1e6 / ns) : 1;
    if (!strcmp(mode, "graph"))
        make_graph();
    for (int i = 0; i < WINDOW; i++)
        must(cuEventCreate(&events[i], 2 /* no timing */), "cuEventCreate");
    if (start == 0 && isatty(0) == 0 && argc > 6) {
        char line[64]; /* calibrated: report it, then read when to start */
        printf("{\"ready\": %llu}\n", work.iterations);
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin))
            return 4;
        start = atof(line);
    }
    while (now_s() < start)
        usleep(100);
    double from = now_s(), begin = !strcmp(mode, "late") ? from + seconds / 2 : from;
    while (now_s() < begin)
        usleep(100);
    while (now_s() < from + seconds) {
        if (sent - done == WINDOW) {
            wait_for(events[done % WINDOW]);
            done++;
            int second = (int)(now_s() - from);
            bins[second < 600 ? second : 599]++;
        }
        unit(mode, kernels);
        must(cuEventRecord(events[sent++ % WINDOW], stream), "cuEventRecord");
    }
    say(bins, (int)seconds, kernels, done, now_s() - from);
    fflush(stdout);
    _exit(0); /* what is still queued does not matter */
}
