/*
 * apps/serve/crash.c - a fault of our own: one line says with which signal and in which build, then
 * what the system does by default. The line is made beforehand but for the number, because nothing
 * may be trusted by then.
 */
#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "serve.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

enum { SIGNAL_AT = 28 }; /* where the two digits stand in the line */
static char line[160];
static size_t line_len;

/* The id that the linker gave this program: the first object that is asked for is the program. */
static int find_build_id(struct dl_phdr_info *info, size_t size, void *out) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type != PT_NOTE) continue;
        const char *at = (const char *)(info->dlpi_addr + p->p_vaddr), *end = at + p->p_memsz;
        while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
            ElfW(Nhdr) n;
            memcpy(&n, at, sizeof n);
            const unsigned char *id =
                (const unsigned char *)at + sizeof n + (n.n_namesz + 3) / 4 * 4;
            if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && n.n_descsz <= 20)
                for (unsigned k = 0; k < n.n_descsz; k++)
                    snprintf((char *)out + 2 * k, 3, "%02x", id[k]);
            at = (const char *)id + (n.n_descsz + 3) / 4 * 4;
        }
    }
    return 1;
}

/* Only what is safe in a signal handler. */
static void say(int sig) {
    line[SIGNAL_AT] = (char)('0' + sig / 10);
    line[SIGNAL_AT + 1] = (char)('0' + sig % 10);
    (void)!write(STDERR_FILENO, line, line_len);
    raise(sig); /* the handler is gone: the default action */
}

void serve_crash_start(void) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    char id[41] = "unknown";
    const struct sigaction act = {.sa_handler = say, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};
    (void)dl_iterate_phdr(find_build_id, id);
    line_len = (size_t)snprintf(
        line, sizeof line, "octet: error: crash: signal 00, octet %s, build %s\n", OCT_VERSION, id);
    for (size_t i = 0; i < OCT_COUNT(signals); i++) sigaction(signals[i], &act, NULL);
}

#else

void serve_crash_start(void) {} /* sanitizers tell more */

#endif
