/* Declarations that the C files of the native bridge share, by the file that defines them.
 *
 * The bridge sits between pyfuse3 and libfuse and adds what pyfuse3 lacks. It exports its own
 * fuse_session_new and is loaded with RTLD_GLOBAL before pyfuse3 is imported, so the dynamic linker gives
 * pyfuse3 ours instead of libfuse's. Ours copies the operations table that pyfuse3 made, puts wrappers into
 * the copy and hands it to the real function:
 *
 *     kernel -> libfuse -> wrapper (wrappers.c) -> pyfuse3's C handler -> coroutine of the handler
 *
 * All wrappers run on the thread of pyfuse3's loop, which receives and processes one request after the other.
 * Code that uses Python takes the GIL itself and does not rely on pyfuse3 holding it. Only notifications
 * (notifications.c) come from other threads.
 *
 * The state belongs to the process and not to the module, as do the exported symbols; pyfuse3 has one session per
 * process, too. All other symbols have hidden visibility (setup.py), because the library is loaded with RTLD_GLOBAL.
 */
#ifndef PROCOREFS_BRIDGE_H
#define PROCOREFS_BRIDGE_H

#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define FUSE_USE_VERSION 35

#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

/* The same number as in native.py, which refuses an extension that was built from other sources. */
#define INTERFACE 3

#define EXPORTED __attribute__((visibility("default"), used))

/* request_times.c: how long requests take, by kind. */
#define EACH_REQUEST_KIND(KIND)                                                                           \
    KIND(lookup) KIND(getattr) KIND(setattr) KIND(readlink) KIND(mknod) KIND(mkdir) KIND(unlink)          \
    KIND(rmdir) KIND(symlink) KIND(rename) KIND(link) KIND(open) KIND(read) KIND(write) KIND(flush)       \
    KIND(release) KIND(fsync) KIND(opendir) KIND(readdir) KIND(readdirplus) KIND(releasedir)              \
    KIND(fsyncdir) KIND(statfs) KIND(setxattr) KIND(getxattr) KIND(listxattr) KIND(removexattr)           \
    KIND(access) KIND(create) KIND(poll) KIND(flock)
enum request_kind {
#define ENUMERATE(name) REQUEST_##name,
    EACH_REQUEST_KIND(ENUMERATE)
#undef ENUMERATE
    REQUEST_KINDS
};
void time_request(fuse_req_t req, enum request_kind kind); /* its time counts from here to its reply */
PyObject *request_times(PyObject *module, PyObject *unused);
PyObject *latency_bounds(void);

/* requests.c: the request that is being handled, and how an interrupt finds it. */
extern PyTypeObject RequestType;
void begin_request(fuse_req_t req); /* each wrapper calls it first: the request becomes the current one */
void clear_current_request(void);   /* no coroutine can take a request */
PyObject *take_request(PyObject *module, PyObject *unused);
PyObject *interrupt_count(PyObject *module, PyObject *unused);

/* wrappers.c: one wrapper for each operation. */
extern struct fuse_lowlevel_ops pyfuse3_ops; /* pyfuse3's own entries */
extern bool must_allow_parallel; /* set between pyfuse3's init and libfuse's reply to it (session.c) */
void put_wrappers(struct fuse_lowlevel_ops *ops);
PyObject *set_opendir_policy(PyObject *module, PyObject *policy);
PyObject *last_setxattr_flags(PyObject *module, PyObject *unused);

/* fast_path.c: writes without a coroutine, and polling for the next request. */
void wrap_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *bufv, off_t off,
                    struct fuse_file_info *fi);
void poll_descriptor(int fd); /* of the mounted session; -1: none */
long long monotonic_ns(void);
int await_request(long long within_ns); /* what poll(2) returns */
bool loop_polls(void); /* whether the loop calls request_comes before it takes a request */
PyObject *set_writer(PyObject *module, PyObject *callee);
PyObject *request_comes(PyObject *module, PyObject *within_ns);

/* granted_reads.c: reads without Python. */
bool reply_granted(fuse_req_t req); /* false: it is for Python */
PyObject *grant_read(PyObject *module, PyObject *args);
PyObject *end_read_grants(PyObject *module, PyObject *unused);
PyObject *granted_reads(PyObject *module, PyObject *unused);

/* flock_requests.c: flock(2). */
extern PyTypeObject FlockType;
bool handles_flock(void);
void wrap_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int operation);
void wrap_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void answer_all_flocks(int error);
PyObject *set_flock_handler(PyObject *module, PyObject *handler);
PyObject *set_release_hook(PyObject *module, PyObject *hook);

/* session.c: the exported symbols, and the session under its lock. */
struct fuse_session *borrow_session(void); /* for one notification; NULL once it is being destroyed */
void return_session(void);
PyObject *session_count(PyObject *module, PyObject *unused);
PyObject *overridden(PyObject *module, PyObject *unused);

/* notifications.c: entries and inodes that the kernel must read again. */
extern PyTypeObject NotificationBatchType;
PyObject *invalidate_listing(PyObject *module, PyObject *folder);

/* guard.c: the process that aborts the connection. */
PyObject *abort_now(PyObject *module, PyObject *words);
PyObject *start_guard(PyObject *module, PyObject *args);

/* Store a callable in an owned reference; None clears it. */
static inline void set_callable(PyObject **reference, PyObject *callable) {
    if (callable == Py_None) {
        Py_CLEAR(*reference);
    } else {
        Py_INCREF(callable);
        Py_XSETREF(*reference, callable);
    }
}

#endif
