/*
 * Built on a recent C library, libkerf must load on older ones (glibc 2.28 on), because it is mounted
 * into images it knows nothing of. Since 2.34 these functions live in libc under a new version; the
 * old version is the same code and is found on both sides. Included before every source file.
 */
#include <features.h>

#if defined(__GLIBC__)
#if defined(__x86_64__)
#define KERF_FIRST "GLIBC_2.2.5"
#define KERF_ROBUST "GLIBC_2.12"
#elif defined(__aarch64__)
#define KERF_FIRST "GLIBC_2.17"
#define KERF_ROBUST "GLIBC_2.17"
#endif
#endif

#ifdef KERF_FIRST
#define KERF_OLD(name, version) __asm__(".symver " #name "," #name "@" version)
KERF_OLD(dlopen, KERF_FIRST);
KERF_OLD(pthread_create, KERF_FIRST);
KERF_OLD(pthread_detach, KERF_FIRST);
KERF_OLD(pthread_sigmask, KERF_FIRST);
KERF_OLD(pthread_attr_setstacksize, KERF_FIRST);
KERF_OLD(pthread_mutex_trylock, KERF_FIRST);
KERF_OLD(pthread_mutex_consistent, KERF_ROBUST);
KERF_OLD(pthread_mutexattr_init, KERF_FIRST);
KERF_OLD(pthread_mutexattr_destroy, KERF_FIRST);
KERF_OLD(pthread_mutexattr_setpshared, KERF_FIRST);
KERF_OLD(pthread_mutexattr_setrobust, KERF_ROBUST);
#endif
