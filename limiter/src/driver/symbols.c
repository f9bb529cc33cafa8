/*
 * dlsym and dlvsym, taken over. Whatever is not ours goes to the real function by a tail jump, so
 * that it sees the true caller (RTLD_NEXT depends on it) and nothing runs before it: no lock, no
 * allocation, no log.
 */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

#include "driver/driver.h"

void *kerf_real_dlsym;
void *kerf_real_dlvsym;

typedef void *(*dlsym_fn)(void *, const char *);
typedef void *(*dlvsym_fn)(void *, const char *, const char *);

struct wanted {
    const char *name;
    void *found;
};

static const ElfW(Dyn) *dynamic_of(const struct dl_phdr_info *object)
{
    for (int i = 0; i < object->dlpi_phnum; i++)
        if (object->dlpi_phdr[i].p_type == PT_DYNAMIC)
            return (const ElfW(Dyn) *)(object->dlpi_addr + object->dlpi_phdr[i].p_vaddr);
    return NULL;
}

static uintptr_t tag_value(const ElfW(Dyn) *dynamic, ElfW(Sxword) tag)
{
    for (; dynamic->d_tag != DT_NULL; dynamic++)
        if (dynamic->d_tag == tag)
            return dynamic->d_un.d_ptr;
    return 0;
}

static uint32_t gnu_hash(const char *name)
{
    uint32_t hash = 5381;
    for (; *name; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

/* The first definition of `name` in one object, by its GNU hash table. */
static void *find_in(const struct dl_phdr_info *object, const char *name)
{
    const ElfW(Dyn) *dynamic = dynamic_of(object);
    const uint32_t *table = dynamic ? (const uint32_t *)tag_value(dynamic, DT_GNU_HASH) : NULL;
    if (!table)
        return NULL;
    const ElfW(Sym) *symbols = (const ElfW(Sym) *)tag_value(dynamic, DT_SYMTAB);
    const char *strings = (const char *)tag_value(dynamic, DT_STRTAB);
    uint32_t buckets = table[0], first = table[1], words = table[2];
    const uint32_t *bucket = (const uint32_t *)((const ElfW(Addr) *)(table + 4) + words);
    const uint32_t *chain = bucket + buckets;
    uint32_t hash = gnu_hash(name);
    for (uint32_t i = bucket[hash % buckets]; i >= first && i; i++) {
        if ((chain[i - first] | 1) == (hash | 1) && strcmp(strings + symbols[i].st_name, name) == 0 && symbols[i].st_value)
            return (void *)(object->dlpi_addr + symbols[i].st_value);
        if (chain[i - first] & 1)
            break;
    }
    return NULL;
}

static int visit(struct dl_phdr_info *object, size_t size, void *data)
{
    struct wanted *wanted = data;
    (void)size;
    const char *file = strrchr(object->dlpi_name, '/');
    file = file ? file + 1 : object->dlpi_name;
    if (strncmp(file, "libc.so", 7) != 0 && strncmp(file, "libdl.so", 8) != 0)
        return 0;
    wanted->found = find_in(object, wanted->name);
    return wanted->found != NULL;
}

/* The C library's own function, by its symbol table: dlvsym could not be asked, it is ours too. */
static void *from_libc(const char *name)
{
    struct wanted wanted = { .name = name };
    dl_iterate_phdr(visit, &wanted);
    return wanted.found;
}

__attribute__((used)) void kerf_resolve_symbols(void)
{
    if (!__atomic_load_n(&kerf_real_dlsym, __ATOMIC_ACQUIRE))
        __atomic_store_n(&kerf_real_dlsym, from_libc("dlsym"), __ATOMIC_RELEASE);
    if (!__atomic_load_n(&kerf_real_dlvsym, __ATOMIC_ACQUIRE))
        __atomic_store_n(&kerf_real_dlvsym, from_libc("dlvsym"), __ATOMIC_RELEASE);
}

void *kerf_find_real(void *handle, const char *name)
{
    kerf_resolve_symbols();
    return ((dlsym_fn)kerf_real_dlsym)(handle, name);
}

/* What a look-up of a hooked name answers; `real` is what the C library said. */
static void *substitute(void *handle, const char *name, void *real)
{
    void *bound, *wrapper = kerf_wrapper_by_name(name, &bound);
    if (!real && handle != RTLD_NEXT)
        return NULL; /* not there, and dlerror says so */
    /* Bind by the handle the caller has, unless it would only find ourselves. */
    void *source = handle == RTLD_NEXT || handle == RTLD_DEFAULT || real == wrapper ? NULL : handle;
    if (name[0] == 'n')
        kerf_bind_nvml(source, false);
    else
        kerf_bind_cuda(source, false);
    (void)!kerf_wrapper_by_name(name, &bound);
    if (kerf_has(bound))
        return wrapper;
    return real == wrapper ? NULL : real;
}

__attribute__((used)) int kerf_takes_over(const char *name)
{
    void *bound;
    return kerf_wrapper_by_name(name, &bound) != NULL;
}

__attribute__((used)) void *kerf_dlsym(void *handle, const char *name)
{
    return substitute(handle, name, kerf_find_real(handle, name));
}

__attribute__((used)) void *kerf_dlvsym(void *handle, const char *name, const char *version)
{
    kerf_resolve_symbols();
    return substitute(handle, name, ((dlvsym_fn)kerf_real_dlvsym)(handle, name, version));
}

/*
 * Names that start with "cu" or "nv" and stand in hooks.def go to us; all else jumps on.
 * Arguments: rdi/x0 handle, rsi/x1 name, rdx/x2 version.
 */
#if defined(__x86_64__)
#define TAKE_OVER(symbol, ours, real)                                           \
    __asm__(".pushsection .text\n"                                              \
            ".globl " #symbol "\n"                                              \
            ".type " #symbol ", @function\n"                                    \
            #symbol ":\n"                                                       \
            "  cmpb $'c', (%rsi)\n"                                             \
            "  je 2f\n"                                                         \
            "  cmpb $'n', (%rsi)\n"                                             \
            "  je 3f\n"                                                         \
            "4: movq " #real "(%rip), %rax\n"                                   \
            "  testq %rax, %rax\n"                                              \
            "  je 1f\n"                                                         \
            "  jmp *%rax\n"                                                     \
            "2: cmpb $'u', 1(%rsi)\n"                                           \
            "  je 5f\n"                                                         \
            "  jmp 4b\n"                                                        \
            "3: cmpb $'v', 1(%rsi)\n"                                           \
            "  jne 4b\n"                                                        \
            "5: pushq %rdi\n"                                                   \
            "  pushq %rsi\n"                                                    \
            "  pushq %rdx\n"                                                    \
            "  movq %rsi, %rdi\n"                                               \
            "  call kerf_takes_over\n"                                          \
            "  popq %rdx\n"                                                     \
            "  popq %rsi\n"                                                     \
            "  popq %rdi\n"                                                     \
            "  testl %eax, %eax\n"                                              \
            "  je 4b\n"                                                         \
            "  jmp " #ours "\n"                                                 \
            "1: pushq %rdi\n"                                                   \
            "  pushq %rsi\n"                                                    \
            "  pushq %rdx\n"                                                    \
            "  call kerf_resolve_symbols\n"                                     \
            "  popq %rdx\n"                                                     \
            "  popq %rsi\n"                                                     \
            "  popq %rdi\n"                                                     \
            "  movq " #real "(%rip), %rax\n"                                    \
            "  jmp *%rax\n"                                                     \
            ".size " #symbol ", . - " #symbol "\n"                              \
            ".popsection\n")
#elif defined(__aarch64__)
#define SAVE "  stp x29, x30, [sp, #-48]!\n  stp x0, x1, [sp, #16]\n  str x2, [sp, #32]\n"
#define LOAD "  ldr x2, [sp, #32]\n  ldp x0, x1, [sp, #16]\n  ldp x29, x30, [sp], #48\n"
#define TAKE_OVER(symbol, ours, real)                                           \
    __asm__(".pushsection .text\n"                                              \
            ".globl " #symbol "\n"                                              \
            ".type " #symbol ", %function\n"                                    \
            #symbol ":\n"                                                       \
            "  ldrb w9, [x1]\n"                                                 \
            "  cmp w9, #'c'\n"                                                  \
            "  b.eq 2f\n"                                                       \
            "  cmp w9, #'n'\n"                                                  \
            "  b.eq 3f\n"                                                       \
            "4: adrp x9, " #real "\n"                                           \
            "  ldr x9, [x9, #:lo12:" #real "]\n"                                \
            "  cbz x9, 1f\n"                                                    \
            "  br x9\n"                                                         \
            "2: ldrb w9, [x1, #1]\n"                                            \
            "  cmp w9, #'u'\n"                                                  \
            "  b.eq 5f\n"                                                       \
            "  b 4b\n"                                                          \
            "3: ldrb w9, [x1, #1]\n"                                            \
            "  cmp w9, #'v'\n"                                                  \
            "  b.ne 4b\n"                                                       \
            "5:\n" SAVE                                                         \
            "  mov x0, x1\n"                                                    \
            "  bl kerf_takes_over\n"                                            \
            "  mov w9, w0\n" LOAD                                               \
            "  cbz w9, 4b\n"                                                    \
            "  b " #ours "\n"                                                   \
            "1:\n" SAVE                                                         \
            "  bl kerf_resolve_symbols\n" LOAD                                  \
            "  adrp x9, " #real "\n"                                            \
            "  ldr x9, [x9, #:lo12:" #real "]\n"                                \
            "  br x9\n"                                                         \
            ".size " #symbol ", . - " #symbol "\n"                              \
            ".popsection\n")
#else
#error "libkerf knows x86-64 and arm64"
#endif

#ifndef KERF_NO_TAKE_OVER /* sanitizers call dlsym before anything of ours may run */
TAKE_OVER(dlsym, kerf_dlsym, kerf_real_dlsym);
TAKE_OVER(dlvsym, kerf_dlvsym, kerf_real_dlvsym);
#endif
