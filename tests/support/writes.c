/* Records what a process writes to a database, for tests/support/power.py: preloaded, it notes every write, truncation,
 * sync and removal of the files whose path begins with $RECORD_WRITES_OF, in their order, in the file $RECORD_WRITES_TO.
 * Each note is one append: a header of six 8-byte words (begun ns, ended ns, kind, file, offset, length) and the data.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2, SYNC = 3, REMOVE = 4, CREATE = 5, SYNC_FOLDER = 6 };
enum { NOBODY = 0, DATABASE = 1, WAL = 2, JOURNAL = 3, FOLDER = 4 };
#define DESCRIPTORS 4096

static unsigned char files[DESCRIPTORS];
static int log_fd = -1;

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_BOOTTIME, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static int file_of(const char *path) {
    const char *base = getenv("RECORD_WRITES_OF");
    size_t length = base ? strlen(base) : 0;
    if (!length || !path) return NOBODY;
    if (strncmp(path, base, length) == 0) {
        const char *end = path + length;
        if (!*end) return DATABASE;
        if (!strcmp(end, "-wal")) return WAL;
        if (!strcmp(end, "-journal")) return JOURNAL;
        return NOBODY;
    }
    const char *slash = strrchr(base, '/');
    return slash && strlen(path) == (size_t)(slash - base) && !strncmp(path, base, (size_t)(slash - base)) ? FOLDER : NOBODY;
}

static void note(uint64_t begun, uint64_t kind, uint64_t file, uint64_t offset, uint64_t length, const void *data) {
    static ssize_t (*real_writev)(int, const struct iovec *, int);
    if (!real_writev) real_writev = dlsym(RTLD_NEXT, "writev");
    if (log_fd < 0) {
        static int (*real_open)(const char *, int, ...);
        real_open = dlsym(RTLD_NEXT, "open64");
        log_fd = real_open(getenv("RECORD_WRITES_TO"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
    uint64_t head[6] = {begun, now(), kind, file, offset, length};
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, data ? length : 0}};
    if (real_writev(log_fd, parts, data ? 2 : 1) != (ssize_t)(sizeof head + (data ? length : 0))) abort();
}

static int watched(int fd) { return fd >= 0 && fd < DESCRIPTORS ? files[fd] : NOBODY; }

int open64(const char *path, int flags, ...) {
    static int (*real)(const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "open64");
    va_list rest;
    va_start(rest, flags);
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, int) : 0;
    va_end(rest);
    int file = file_of(path);
    struct stat facts;
    int is_new = file && file != FOLDER && (flags & O_CREAT) && stat(path, &facts) != 0;
    uint64_t begun = now();
    int fd = real(path, flags, mode);
    if (fd >= 0 && fd < DESCRIPTORS) files[fd] = (unsigned char)file;
    if (fd >= 0 && is_new) note(begun, CREATE, (uint64_t)file, 0, 0, NULL);
    return fd;
}

int close(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "close");
    if (fd >= 0 && fd < DESCRIPTORS) files[fd] = NOBODY;
    if (fd == log_fd) log_fd = -1;
    return real(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    uint64_t begun = watched(fd) ? now() : 0;
    ssize_t done = real(fd, data, length, offset);
    if (watched(fd) && done > 0) note(begun, WRITE, (uint64_t)watched(fd), (uint64_t)offset, (uint64_t)done, data);
    return done;
}

ssize_t write(int fd, const void *data, size_t length) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    uint64_t begun = watched(fd) ? now() : 0;
    off_t at = watched(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t done = real(fd, data, length);
    if (watched(fd) && done > 0) note(begun, WRITE, (uint64_t)watched(fd), (uint64_t)at, (uint64_t)done, data);
    return done;
}

int ftruncate64(int fd, off64_t size) {
    static int (*real)(int, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate64");
    uint64_t begun = watched(fd) ? now() : 0;
    int done = real(fd, size);
    if (watched(fd) && !done) note(begun, TRUNCATE, (uint64_t)watched(fd), (uint64_t)size, 0, NULL);
    return done;
}

static int synced(int fd, const char *name) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    uint64_t begun = watched(fd) ? now() : 0;
    int done = real(fd);
    if (watched(fd) && !done) note(begun, watched(fd) == FOLDER ? SYNC_FOLDER : SYNC, (uint64_t)watched(fd), 0, 0, NULL);
    return done;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    int file = file_of(path);
    uint64_t begun = file ? now() : 0;
    int done = real(path);
    if (file && file != FOLDER && !done) note(begun, REMOVE, (uint64_t)file, 0, 0, NULL);
    return done;
}
