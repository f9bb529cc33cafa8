/* runtime LIBCUDART: makes NVIDIA's own runtime look up all it wants from the driver. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    void *runtime = dlopen(argv[argc - 1], RTLD_NOW);
    if (!runtime) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    int (*count)(int *), n = -1;
    *(void **)&count = dlsym(runtime, "cudaGetDeviceCount");
    printf("%d\n", count(&n));
    return 0;
}
