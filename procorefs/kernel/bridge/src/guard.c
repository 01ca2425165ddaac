/* The guard: a small process that aborts the FUSE connection when the daemon dies or hangs.
 *
 * A thread that is stuck in a kernel notification cannot be killed, not even by SIGKILL:
 * it keeps the memory and descriptors of the daemon, so the connection stays open and every program that
 * uses the mount hangs too. Only an abort of the connection releases them, and only another process can do it.
 *
 * The guard is forked from the daemon's main thread and never returns to Python: after fork only functions
 * that are safe in the child of a process with threads are called, and no memory is allocated. PR_SET_PDEATHSIG
 * signals the daemon's death (the pipe does not: a stuck thread keeps it open), and missing heartbeats show a hang.
 * A daemon that ends normally kills the guard first.
 */

#include "bridge.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD_NAME "procorefs-guard"
#define GUARD_SIGNAL SIGUSR1 /* from the kernel, when the daemon's main thread ends */
#define GUARD_TICKS 12       /* polls in one timeout; a suspend of the machine counts as one poll */

enum { MOUNT_WORDS_MAX = 3 * 4 * 4096 }; /* a path in mountinfo is escaped: up to four bytes each */

/* The connection as the kernel names it. All of it is copied before the fork. */
struct connection {
    char device[32];                 /* "0:43": the third field of its line in mountinfo */
    char mounted[MOUNT_WORDS_MAX];   /* the fifth, escaped as there */
    char mountpoint[4 * 4096];       /* the same path, not escaped */
    char abort_file[4096];           /* /sys/fs/fuse/connections/43/abort */
};

enum ownership { OURS_MOUNTED, OURS_DETACHED, NOT_OURS };

struct reader {
    int fd;
    ssize_t filled, taken;
    char buffer[4096];
};

static int next_char(struct reader *reader) {
    if (reader->taken == reader->filled) {
        reader->taken = 0;
        reader->filled = read(reader->fd, reader->buffer, sizeof(reader->buffer));
        if (reader->filled <= 0)
            return -1;
    }
    return (unsigned char)reader->buffer[reader->taken++];
}

/* Reads one field of a mountinfo line into field (cut at room) and returns the character after it. */
static int read_field(struct reader *reader, char *field, size_t room) {
    size_t size = 0;
    int c;
    while ((c = next_char(reader)) != -1 && c != ' ' && c != '\n')
        if (size + 1 < room)
            field[size++] = (char)c;
    field[size] = '\0';
    return c;
}

/* The kernel reuses the device number when the mount has ended, so only a mount at the known path is aborted. A
 * mount that mountinfo does not list counts as ours: it was unmounted lazily and lives while a program uses it. */
static enum ownership ownership_in(int mountinfo, const struct connection *connection) {
    struct reader reader = {.fd = mountinfo, .filled = 0, .taken = 0};
    char field[MOUNT_WORDS_MAX];
    enum ownership found = OURS_DETACHED;
    int after = ' ';
    while (after != -1 && found != OURS_MOUNTED) {
        bool same_device = false;
        int number = 0;
        do {
            after = read_field(&reader, field, sizeof(field));
            number++;
            if (number == 3)
                same_device = strcmp(field, connection->device) == 0;
            if (number == 5 && same_device)
                found = strcmp(field, connection->mounted) == 0 ? OURS_MOUNTED : NOT_OURS;
        } while (after == ' ');
    }
    return found;
}

static enum ownership ownership_of(const struct connection *connection) {
    int mountinfo = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (mountinfo < 0)
        return OURS_DETACHED;
    enum ownership found = ownership_in(mountinfo, connection);
    close(mountinfo);
    return found;
}

/* Ends all requests of the connection; later ones get ENOTCONN. Returns 0 or a positive errno. */
static int abort_connection(const struct connection *connection) {
    enum ownership found = ownership_of(connection);
    if (found == NOT_OURS)
        return ENOENT;
    int fd = open(connection->abort_file, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        int error = write(fd, "1", 1) == 1 ? 0 : errno;
        close(fd);
        return error;
    }
    if (found != OURS_MOUNTED)
        return ENOENT;
    /* Without fusectl: MNT_FORCE aborts before it unmounts. Root only. */
    return umount2(connection->mountpoint, MNT_FORCE | MNT_DETACH) == 0 ? 0 : errno;
}

/* Reads the beginning of a file in /proc as a string. */
static void read_text(const char *path, char *text, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? 0 : read(fd, text, room - 1);
    if (fd >= 0)
        close(fd);
    text[size > 0 ? size : 0] = '\0';
}

/* Whether the text of /proc/PID/stat is that of a stopped process. */
static bool says_stopped(const char *stat) {
    const char *state = strrchr(stat, ')'); /* the name before it may contain any character */
    return state != NULL && state[1] == ' ' && (state[2] == 'T' || state[2] == 't');
}

/* Whether a person has stopped the daemon (Ctrl-Z, a debugger): then it does not hang. */
static bool is_stopped(pid_t pid) {
    char path[32], text[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    read_text(path, text, sizeof(text));
    return says_stopped(text);
}

/* Finds arg_start and arg_end, fields 48 and 49 of proc_pid_stat(5), in the text of /proc/self/stat. */
static bool find_arguments(const char *stat, uintptr_t *start, uintptr_t *end) {
    const char *field = strrchr(stat, ')'); /* ends the second field */
    for (int number = 2; field != NULL && number < 48; number++)
        field = strchr(field + 1, ' ');
    if (field == NULL)
        return false;
    char *after;
    *start = strtoull(field, &after, 10);
    *end = strtoull(after, NULL, 10);
    return *start != 0 && *end >= *start && *end - *start >= sizeof(GUARD_NAME);
}

/* Writes the guard's name over this process's copy of the daemon's command line, so that ps and pkill -f do not
 * take the guard for a second daemon. Best effort: nothing depends on it. */
static void rename_command_line(void) {
    char text[1024];
    uintptr_t start, end;
    read_text("/proc/self/stat", text, sizeof(text));
    if (!find_arguments(text, &start, &end))
        return;
    memset((char *)start, 0, end - start);
    memcpy((char *)start, GUARD_NAME, sizeof(GUARD_NAME));
}

static void close_all_but_first(void) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 1U, ~0U, 0U) == 0)
        return;
#endif
    struct rlimit limit;
    int end = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
    for (int fd = 1; fd < end; fd++)
        close(fd);
}

/* Returns when the connection must be aborted. The pipe is descriptor 0; each byte in it is a heartbeat. */
static void wait_for_failure(int signals, pid_t daemon, int timeout_ms) {
    int tick_ms = timeout_ms / GUARD_TICKS > 0 ? timeout_ms / GUARD_TICKS : 1;
    int silent_ms = 0;
    for (;;) {
        struct pollfd watched[] = {{.fd = 0, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
        int ready = poll(watched, 2, tick_ms);
        if (ready == 0) {
            silent_ms += tick_ms; /* counted in ticks: a suspend of the machine is not silence */
            if (silent_ms >= timeout_ms && is_stopped(daemon))
                silent_ms = 0;
            if (silent_ms >= timeout_ms)
                return;
            continue;
        }
        struct signalfd_siginfo info;
        if (watched[1].revents != 0 && read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info) &&
            (info.ssi_pid == (uint32_t)daemon || info.ssi_pid == 0))
            return;
        char bytes[64];
        ssize_t size = watched[0].revents != 0 ? read(0, bytes, sizeof(bytes)) : -1;
        if (size == 0)
            return; /* no process has the other end open */
        if (size > 0)
            silent_ms = 0;
    }
}

/* The guard process. All signals are blocked: a SIGINT or SIGTERM to the daemon's process group or session must
 * not end the guard before the daemon. */
static _Noreturn void guard_main(int pipe_fd, pid_t daemon, const struct connection *connection,
                                 int timeout_ms) {
    signal(GUARD_SIGNAL, SIG_DFL); /* an ignored signal would never become pending */
    prctl(PR_SET_PDEATHSIG, GUARD_SIGNAL);
    prctl(PR_SET_NAME, GUARD_NAME);
    rename_command_line();
    setsid();
    if (chdir("/") != 0)
        _exit(1); /* a working directory inside the mount would keep it busy */
    dup2(pipe_fd, 0);
    close_all_but_first();
    sigset_t death;
    sigemptyset(&death);
    sigaddset(&death, GUARD_SIGNAL);
    int signals = signalfd(-1, &death, SFD_CLOEXEC);
    if (getppid() == daemon) /* else the daemon died before the prctl */
        wait_for_failure(signals, daemon, timeout_ms);
    abort_connection(connection);
    _exit(0);
}

/* ---- The functions that Python calls -------------------------------------------------------------------------- */

static int copy_word(char *target, size_t room, const char *source) {
    if (strlen(source) >= room) {
        PyErr_SetString(PyExc_ValueError, "a path of the connection is too long");
        return -1;
    }
    strcpy(target, source);
    return 0;
}

/* From (device, mounted, mountpoint, abort_file), the fields of Connection in connection.py. Free with PyMem_Free. */
static struct connection *read_connection(PyObject *words) {
    const char *device, *mounted, *mountpoint, *abort_file;
    if (!PyArg_ParseTuple(words, "yyyy", &device, &mounted, &mountpoint, &abort_file))
        return NULL;
    struct connection *connection = PyMem_Malloc(sizeof(*connection));
    if (connection == NULL)
        return (struct connection *)PyErr_NoMemory();
    if (copy_word(connection->device, sizeof(connection->device), device) < 0 ||
        copy_word(connection->mounted, sizeof(connection->mounted), mounted) < 0 ||
        copy_word(connection->mountpoint, sizeof(connection->mountpoint), mountpoint) < 0 ||
        copy_word(connection->abort_file, sizeof(connection->abort_file), abort_file) < 0) {
        PyMem_Free(connection);
        return NULL;
    }
    return connection;
}

PyObject *abort_now(PyObject *module, PyObject *words) {
    (void)module;
    struct connection *connection = read_connection(words);
    if (connection == NULL)
        return NULL;
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = abort_connection(connection);
    Py_END_ALLOW_THREADS
    PyMem_Free(connection);
    return PyLong_FromLong(error);
}

/* Forks; returns the child's process id, or -1 with errno set. */
static pid_t fork_guard(int pipe_fd, const struct connection *connection, int timeout_ms) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no signal handler of Python may run in the child */
    pid_t daemon = getpid();
    pid_t pid = fork();
    if (pid == 0)
        guard_main(pipe_fd, daemon, connection, timeout_ms);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return pid;
}

PyObject *start_guard(PyObject *module, PyObject *args) {
    (void)module;
    PyObject *words;
    double timeout_s;
    if (!PyArg_ParseTuple(args, "O!d", &PyTuple_Type, &words, &timeout_s))
        return NULL;
    if (syscall(SYS_gettid) != getpid()) {
        PyErr_SetString(PyExc_RuntimeError, "the guard watches the thread that starts it: use the main thread");
        return NULL;
    }
    struct connection *connection = read_connection(words);
    if (connection == NULL)
        return NULL;
    int ends[2];
    pid_t pid = -1;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) { /* a guard that does not read must not block the event loop */
        pid = fork_guard(ends[0], connection, (int)(timeout_s * 1000));
        close(ends[0]);
        if (pid < 0)
            close(ends[1]);
    }
    PyMem_Free(connection);
    if (pid < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return Py_BuildValue("(ii)", (int)pid, ends[1]);
}
