/* A test program in one header: CHECK counts, main says. */
#ifndef KERF_CHECK_H
#define KERF_CHECK_H

#include <stdio.h>

static int checks, failures;

#define CHECK(condition)                                                           \
    do {                                                                           \
        checks++;                                                                  \
        if (!(condition)) {                                                        \
            failures++;                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);        \
        }                                                                          \
    } while (0)

#define FINISH()                                                   \
    do {                                                           \
        printf("%s: %d checks, %d failed\n", __FILE__, checks, failures); \
        return failures != 0;                                      \
    } while (0)

#endif
