/*
 * Answers look-ups, one line each, by the library and symbol that the answer lies in:
 *   dlsym NAME | default NAME | next NAME | ask NAME VERSION FLAGS | loaded
 * Not linked with libcuda: "loaded" opens it.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void say(void *found, int rc, int status)
{
    Dl_info info = { 0 };
    const char *file = found && dladdr(found, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
    printf("%s %s %d %d\n", !found ? "none" : file ? file + 1 : "stub", info.dli_sname ? info.dli_sname : "-", rc, status);
    fflush(stdout);
}

static void ask(void *cuda, const char *name, int version, uint64_t flags)
{
    int (*look_up)(const char *, void **, int, uint64_t, int *);
    void *found = NULL;
    int status = -1;
    *(void **)&look_up = dlsym(cuda, "cuGetProcAddress_v2");
    int rc = look_up(name, &found, version, flags, &status);
    say(found, rc, status);
}

int main(void)
{
    char line[256], verb[32], name[128];
    void *cuda = NULL;
    while (fgets(line, sizeof line, stdin)) {
        int version = 0;
        unsigned flags = 0;
        name[0] = 0;
        if (sscanf(line, "%31s %127s %d %u", verb, name, &version, &flags) < 1)
            continue;
        if (!strcmp(verb, "loaded"))
            cuda = dlopen("libcuda.so.1", RTLD_NOW), printf("%d\n", cuda != NULL), fflush(stdout);
        else if (!strcmp(verb, "dlsym"))
            say(dlsym(cuda, name), 0, 0);
        else if (!strcmp(verb, "default"))
            say(dlsym(RTLD_DEFAULT, name), 0, 0);
        else if (!strcmp(verb, "next"))
            say(dlsym(RTLD_NEXT, name), 0, 0);
        else if (!strcmp(verb, "libc"))
            say(dlvsym(RTLD_DEFAULT, name, "GLIBC_2.2.5"), 0, 0);
        else
            ask(cuda, name, version, flags);
    }
    return 0;
}
