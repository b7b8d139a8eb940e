/* What Android's libraries import and glibc has not, or has with another ABI, so that they load on a desktop JVM.
 *
 * glibc looks a name up in the program first and in a library's own dependencies last, so a function of this file never
 * hides glibc's of the same name: for those whose ABI differs, elf.py renames the import in a copy of each library, by a
 * capital letter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* bionic */

int *__errno(void) { return &errno; }

void __assert2(const char *file, int line, const char *function, const char *condition) {
    fprintf(stderr, "%s:%d: %s: assertion \"%s\" failed\n", file, line, function, condition);
    abort();
}

char *__gnu_strerror_r(int code, char *text, size_t size) { return strerror_r(code, text, size); }
size_t __strlen_chk(const char *text, size_t size) { (void)size; return strlen(text); }
char *__strchr_chk(const char *text, int c, size_t size) { (void)size; return strchr(text, c); }
char *__strrchr_chk(const char *text, int c, size_t size) { (void)size; return strrchr(text, c); }
ssize_t __write_chk(int file, const void *data, size_t n, size_t size) { (void)size; return write(file, data, n); }

int __system_property_get(const char *name, char *value) { (void)name; *value = 0; return 0; }
void android_set_abort_message(const char *message) { fprintf(stderr, "abort: %s\n", message); }

/* liblog: warnings and worse */

enum { WARN = 5 };

int __android_log_vprint(int priority, const char *tag, const char *format, va_list arguments) {
    if (priority < WARN) return 0;
    fprintf(stderr, "%s: ", tag ? tag : "");
    vfprintf(stderr, format, arguments);
    return fputc('\n', stderr);
}

int __android_log_print(int priority, const char *tag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int result = __android_log_vprint(priority, tag, format, arguments);
    va_end(arguments);
    return result;
}

int __android_log_write(int priority, const char *tag, const char *text) {
    return __android_log_print(priority, tag, "%s", text);
}

void __android_log_assert(const char *condition, const char *tag, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "assertion \"%s\" failed: ", condition ? condition : "");
    __android_log_vprint(WARN, tag, format ? format : "", arguments);
    abort();
}

/* Old bionic has its standard streams in an array; nobody looks inside. */

enum { STREAM = 152 }; /* sizeof(FILE) of 64-bit bionic */
char __sF[3 * STREAM];

static FILE *real(FILE *stream) {
    size_t offset = (size_t)((char *)stream - __sF);
    if ((char *)stream < __sF || offset >= sizeof __sF) return stream;
    return offset == 0 ? stdin : offset == STREAM ? stdout : stderr;
}

int Fflush(FILE *stream) { return fflush(stream ? real(stream) : NULL); }
int Fputc(int c, FILE *stream) { return fputc(c, real(stream)); }
int Fputs(const char *text, FILE *stream) { return fputs(text, real(stream)); }
size_t Fwrite(const void *data, size_t size, size_t n, FILE *stream) { return fwrite(data, size, n, real(stream)); }
int vFprintf(FILE *stream, const char *format, va_list arguments) { return vfprintf(real(stream), format, arguments); }

int Fprintf(FILE *stream, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int result = vfprintf(real(stream), format, arguments);
    va_end(arguments);
    return result;
}

/* Other numbers, other sizes */

long Sysconf(int name) {
    static const struct { int bionic, glibc; } names[] = {
        {0x06, _SC_CLK_TCK},          {0x27, _SC_PAGESIZE},         {0x28, _SC_PAGE_SIZE},
        {0x60, _SC_NPROCESSORS_CONF}, {0x61, _SC_NPROCESSORS_ONLN}, {0x62, _SC_PHYS_PAGES},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].bionic == name) return sysconf(names[i].glibc);
    errno = EINVAL;
    return -1;
}

/* 64-bit bionic's sigset_t is one word, of glibc's sixteen. */
int Sigfillset(unsigned long *set) { *set = ~0ul; return 0; }

int Pthread_sigmask(int how, const unsigned long *set, unsigned long *old) {
    sigset_t wide, before;
    sigemptyset(&wide);
    if (set) memcpy(&wide, set, sizeof *set);
    int result = pthread_sigmask(how, set ? &wide : NULL, &before);
    if (old) memcpy(old, &before, sizeof *old);
    return result;
}

/* bionic's mutex has 40 bytes, and glibc's on arm64 has 48, of which the last 8 are only ever cleared. */
int Pthread_mutex_init(void *mutex, const pthread_mutexattr_t *attributes) {
    pthread_mutex_t made;
    int result = pthread_mutex_init(&made, attributes);
    memcpy(mutex, &made, 40);
    return result;
}

/* glibc has the function of POSIX under another name. */
extern int __xpg_strerror_r(int code, char *text, size_t size);
int Strerror_r(int code, char *text, size_t size) { return __xpg_strerror_r(code, text, size); }
