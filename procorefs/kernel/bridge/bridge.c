/* The native bridge: stands between pyfuse3 and libfuse and adds what pyfuse3 leaves out.
 *
 * This extension exports its own fuse_session_new. It is loaded with RTLD_GLOBAL before pyfuse3 is
 * imported, so the dynamic linker gives pyfuse3 ours instead of libfuse's. Ours copies the operations
 * table that pyfuse3 made, puts wrappers into the copy and hands it to the real function:
 *
 *     kernel -> libfuse -> wrapper (here) -> pyfuse3's C handler -> coroutine of the handler
 *
 * Nothing here but an unanswered Flock (flocks.h) holds a fuse_req_t longer than its wrapper runs. An
 * interrupt finds its Request by a serial number that is never used twice, so an interrupt that comes late,
 * or a Request that somebody kept, finds nothing instead of freed memory.
 *
 * All entries run on the thread of pyfuse3's loop (one thread: it receives and processes in turn). What
 * touches Python takes the GIL by itself and does not rely on pyfuse3 holding it. Only notifications
 * (notices.h) come from other threads.
 *
 * This state is the process's and not the module's because the symbols are: pyfuse3 too has one session
 * a process.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define FUSE_USE_VERSION 35

#include <Python.h>
#include <structmember.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MAX_BACKGROUND 1024 /* with libfuse's 12, slow reads delay every RELEASE by seconds */

#define EXPORTED __attribute__((visibility("default"), used))

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "serial numbers travel through void *");

/* ---- Requests ------------------------------------------------------------------------------------ */

#define BUCKETS 1024 /* a power of two; chains stay short up to several thousand waiting requests */

typedef struct Request {
    PyObject_HEAD
    uint64_t serial;      /* unique for the life of the process */
    long tid;             /* thread that made the system call; 0: it lives outside of our PID namespace */
    bool interrupted;
    bool finished;        /* while false, it stands in its bucket */
    PyObject *callback;   /* owned; NULL: nobody wants to hear of an interrupt */
    struct Request *next; /* in the bucket; not owned: finish and dealloc take it out */
} Request;

/* The request whose C handler ran last and whose coroutine has not taken it yet; serial 0: none. */
static struct {
    uint64_t serial;
    long tid;
    bool interrupted;
} current;

static uint64_t last_serial;
static Request *buckets[BUCKETS];
static unsigned long interrupts_seen;

static Request **bucket_of(uint64_t serial) { return &buckets[serial & (BUCKETS - 1)]; }

static Request *find_request(uint64_t serial) {
    Request *request = *bucket_of(serial);
    while (request != NULL && request->serial != serial)
        request = request->next;
    return request;
}

static void forget_request(Request *request) {
    if (request->finished)
        return;
    Request **link = bucket_of(request->serial);
    while (*link != request)
        link = &(*link)->next;
    *link = request->next;
    request->finished = true;
}

/* Tells Python of the interrupt. libfuse holds this request's own lock meanwhile: nothing that Python
 * can reach from here calls libfuse with it, because a Request holds no fuse_req_t (but see flocks.h). */
static void deliver(Request *request) {
    request->interrupted = true;
    PyObject *callback = request->callback;
    if (callback == NULL)
        return;
    Py_INCREF(callback); /* it may well finish the request, which drops the callback */
    PyObject *result = PyObject_CallNoArgs(callback);
    if (result == NULL)
        PyErr_WriteUnraisable(callback);
    Py_XDECREF(result);
    Py_DECREF(callback);
}

static void interrupted(fuse_req_t req, void *data) {
    (void)req;
    uint64_t serial = (uint64_t)(uintptr_t)data;
    PyGILState_STATE gil = PyGILState_Ensure();
    interrupts_seen++;
    if (current.serial == serial) {
        current.interrupted = true; /* before its coroutine began: take_request hands it on */
    } else {
        Request *request = find_request(serial);
        if (request != NULL) {
            Py_INCREF(request);
            deliver(request);
            Py_DECREF(request);
        }
    }
    PyGILState_Release(gil);
}

/* First act of every wrapper: the request becomes the current one, before pyfuse3 sees it. */
static void begin(fuse_req_t req) {
    current.serial = ++last_serial;
    current.tid = (long)fuse_req_ctx(req)->pid;
    current.interrupted = false;
    /* May call interrupted() at once, when the interrupt overtook the request. */
    fuse_req_interrupt_func(req, interrupted, (void *)(uintptr_t)current.serial);
}

static int request_traverse(Request *self, visitproc visit, void *arg) {
    Py_VISIT(self->callback);
    return 0;
}

static int request_clear(Request *self) {
    Py_CLEAR(self->callback);
    return 0;
}

static void request_dealloc(Request *self) {
    PyObject_GC_UnTrack(self);
    forget_request(self);
    request_clear(self);
    PyObject_GC_Del(self);
}

static PyObject *request_on_interrupt(Request *self, PyObject *callback) {
    if (self->finished) {
        PyErr_SetString(PyExc_RuntimeError, "this request is finished: nothing can interrupt it");
        return NULL;
    }
    Py_INCREF(callback);
    Py_XSETREF(self->callback, callback);
    if (self->interrupted)
        return PyObject_CallNoArgs(callback);
    Py_RETURN_NONE;
}

static PyObject *request_finish(Request *self, PyObject *unused) {
    (void)unused;
    forget_request(self);
    Py_CLEAR(self->callback);
    Py_RETURN_NONE;
}

static PyMethodDef request_methods[] = {
    {"on_interrupt", (PyCFunction)request_on_interrupt, METH_O,
     "Call back on the loop's thread when the kernel interrupts this request; at once if it already did."},
    {"finish", (PyCFunction)request_finish, METH_NOARGS,
     "Drop the callback: from here on nothing interrupts this request. May be called again."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef request_members[] = {
    {"tid", T_LONG, offsetof(Request, tid), READONLY, "Calling thread; 0: outside of our PID namespace."},
    {"interrupted", T_BOOL, offsetof(Request, interrupted), READONLY, "The kernel has interrupted it."},
    {"finished", T_BOOL, offsetof(Request, finished), READONLY, "Nothing can interrupt it any more."},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject RequestType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "procorefs.kernel.bridge._bridge.Request",
    .tp_doc = "One request of the kernel, as far as an interrupt needs it.",
    .tp_basicsize = sizeof(Request),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)request_traverse,
    .tp_clear = (inquiry)request_clear,
    .tp_dealloc = (destructor)request_dealloc,
    .tp_methods = request_methods,
    .tp_members = request_members,
};

static PyObject *take_request(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (current.serial == 0)
        Py_RETURN_NONE;
    Request *request = PyObject_GC_New(Request, &RequestType);
    if (request == NULL)
        return NULL;
    request->serial = current.serial;
    request->tid = current.tid;
    request->interrupted = current.interrupted;
    request->callback = NULL;
    request->finished = false;
    request->next = *bucket_of(request->serial);
    *bucket_of(request->serial) = request;
    current.serial = 0;
    PyObject_GC_Track(request);
    return (PyObject *)request;
}

/* ---- Wrappers ------------------------------------------------------------------------------------ */

static struct fuse_lowlevel_ops next; /* pyfuse3's own entries */
static PyObject *opendir_policy;      /* owned; called with the inode; NULL: listings are not kept */

#define WRAP(name, parameters, arguments)  \
    static void wrap_##name parameters {   \
        begin(req);                        \
        next.name arguments;               \
    }

WRAP(lookup, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
WRAP(getattr, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))
WRAP(readlink, (fuse_req_t req, fuse_ino_t ino), (req, ino))
WRAP(mknod, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev),
     (req, parent, name, mode, rdev))
WRAP(mkdir, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode), (req, parent, name, mode))
WRAP(unlink, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
WRAP(rmdir, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
WRAP(symlink, (fuse_req_t req, const char *link, fuse_ino_t parent, const char *name),
     (req, link, parent, name))
WRAP(rename,
     (fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
      unsigned int flags),
     (req, parent, name, newparent, newname, flags))
WRAP(link, (fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname),
     (req, ino, newparent, newname))
WRAP(read, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),
     (req, ino, size, off, fi))
WRAP(write,
     (fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi),
     (req, ino, buf, size, off, fi))
WRAP(flush, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))
WRAP(fsync, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi),
     (req, ino, datasync, fi))
WRAP(readdir, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),
     (req, ino, size, off, fi))
WRAP(readdirplus, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),
     (req, ino, size, off, fi))
WRAP(releasedir, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))
WRAP(fsyncdir, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi),
     (req, ino, datasync, fi))
WRAP(statfs, (fuse_req_t req, fuse_ino_t ino), (req, ino))
WRAP(listxattr, (fuse_req_t req, fuse_ino_t ino, size_t size), (req, ino, size))
WRAP(removexattr, (fuse_req_t req, fuse_ino_t ino, const char *name), (req, ino, name))
WRAP(access, (fuse_req_t req, fuse_ino_t ino, int mask), (req, ino, mask))
WRAP(create,
     (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi),
     (req, parent, name, mode, fi))
WRAP(poll, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph),
     (req, ino, fi, ph))

/* "Now" comes with the kernel's time, which is that of its last tick: up to 10 ms behind the clock that gave a file
 * its time when it was written. Without that time pyfuse3 takes CLOCK_REALTIME, as everything here does. */
static void wrap_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                         struct fuse_file_info *fi) {
    begin(req);
    if (to_set & FUSE_SET_ATTR_ATIME_NOW)
        to_set &= ~FUSE_SET_ATTR_ATIME;
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        to_set &= ~FUSE_SET_ATTR_MTIME;
    next.setattr(req, ino, attr, to_set, fi);
}

/* Forgets are no requests (nobody waits for them): their handler must find an empty slot. */
static void wrap_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup) {
    current.serial = 0;
    next.forget(req, ino, nlookup);
}

static void wrap_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
    current.serial = 0;
    next.forget_multi(req, count, forgets);
}

/* Set between pyfuse3's init and libfuse's reply to it: that reply must allow parallel lookups. */
static bool must_allow_parallel;

static void wrap_init(void *userdata, struct fuse_conn_info *conn) {
    next.init(userdata, conn);
    must_allow_parallel = (conn->capable & FUSE_CAP_PARALLEL_DIROPS) != 0;
    if (must_allow_parallel)
        conn->want |= FUSE_CAP_PARALLEL_DIROPS;
    /* With splice every small request costs three system calls; a plain read is one, and what pyfuse3
     * does with the bytes needs them in memory anyway. */
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    /* A program that maps a file would have its dirty pages sent whenever the kernel likes. */
    conn->want &= ~(unsigned)FUSE_CAP_WRITEBACK_CACHE;
    if (conn->max_background < MAX_BACKGROUND)
        conn->max_background = MAX_BACKGROUND;
    conn->congestion_threshold = conn->max_background / 4 * 3;
}

/* Both flags must stand in fi before pyfuse3's handlers copy it; they leave them as they are. */
static void wrap_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    begin(req);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 11)
    if ((fi->flags & O_ACCMODE) == O_RDONLY)
        fi->noflush = 1; /* who cannot write has nothing to flush: a round trip less for every close */
#endif
    next.open(req, ino, fi);
}

static bool may_keep_listing(fuse_ino_t ino) {
    bool keep = false;
    PyGILState_STATE gil = PyGILState_Ensure();
    if (opendir_policy != NULL) {
        PyObject *policy = Py_NewRef(opendir_policy);
        PyObject *answer = PyObject_CallFunction(policy, "K", (unsigned long long)ino);
        int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
        if (truth < 0)
            PyErr_WriteUnraisable(policy); /* and the kernel lists anew, which is always right */
        keep = truth == 1;
        Py_XDECREF(answer);
        Py_DECREF(policy);
    }
    PyGILState_Release(gil);
    return keep;
}

static void wrap_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    begin(req);
    fi->cache_readdir = 1;
    fi->keep_cache = may_keep_listing(ino);
    next.opendir(req, ino, fi);
}

static bool has_prefix(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* The kernel asks for security.capability at every write: these never cost a coroutine. */
static void wrap_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
    if (has_prefix(name, "security.") || has_prefix(name, "system.") || has_prefix(name, "trusted.")) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    begin(req);
    next.getxattr(req, ino, name, size);
}

/* pyfuse3 does not hand the flags on: it asks getxattr first, which may have to ask Procore, while the kernel
 * holds the lock of the file or folder. So our handler gets them, and pyfuse3 sees none. */
static int setxattr_flags; /* of the request that began last */

static void wrap_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                          int flags) {
    begin(req);
    setxattr_flags = flags;
    next.setxattr(req, ino, name, value, size, 0);
}
#include "flocks.h"

#include "quick.h"

/* ---- The session --------------------------------------------------------------------------------- */

static unsigned long sessions_made; /* how often pyfuse3 came through here */

/* Guards the session against being destroyed under a notification on another thread. */
static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t no_notification = PTHREAD_COND_INITIALIZER;
static struct fuse_session *session; /* under session_lock; NULL: none, or it is going */
static unsigned notifications;       /* under session_lock: threads that use the session right now */

static void put_wrappers(struct fuse_lowlevel_ops *ops) {
#define PUT(name)                      \
    do {                               \
        if (ops->name != NULL)         \
            ops->name = wrap_##name;   \
    } while (0)
    PUT(init); PUT(lookup); PUT(forget); PUT(forget_multi); PUT(getattr); PUT(setattr); PUT(readlink);
    PUT(mknod); PUT(mkdir); PUT(unlink); PUT(rmdir); PUT(symlink); PUT(rename); PUT(link); PUT(open);
    PUT(read); PUT(write); PUT(write_buf); PUT(flush); PUT(release); PUT(fsync); PUT(opendir);
    PUT(readdir); PUT(readdirplus); PUT(releasedir); PUT(fsyncdir); PUT(statfs); PUT(setxattr);
    PUT(getxattr); PUT(listxattr); PUT(removexattr); PUT(access); PUT(create); PUT(poll);
#undef PUT
    if (flock_handler != NULL)
        ops->flock = wrap_flock; /* libfuse then asks the kernel for FUSE_FLOCK_LOCKS by itself */
}

typedef struct fuse_session *(*new_session)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t,
                                            void *);
typedef struct fuse_session *(*new_versioned)(struct fuse_args *, const struct fuse_lowlevel_ops *, size_t,
                                              void *, void *);

/* The real function after ours; NULL with a line on stderr when libfuse has none of that name. */
static void *real(const char *symbol) {
    void *function = dlsym(RTLD_NEXT, symbol);
    if (function == NULL)
        fprintf(stderr, "procorefs: libfuse has no %s, so nothing can be mounted with it\n", symbol);
    return function;
}

/* pyfuse3's table may be longer or shorter than the one of our headers: it is copied whole, and entries
 * that it does not reach are NULL and stay unwrapped. versioned says which of the two forms to call. */
static struct fuse_session *make_session(const char *symbol, bool versioned, struct fuse_args *args,
                                         const struct fuse_lowlevel_ops *ops, size_t ops_size,
                                         void *version, void *userdata) {
    static bool inside; /* a libfuse may call one of its forms from another, and meet ours again */
    void *function = real(symbol);
    if (function == NULL)
        return NULL;
    size_t room = ops_size > sizeof(next) ? ops_size : sizeof(next);
    struct fuse_lowlevel_ops *copy = calloc(1, room);
    if (copy == NULL)
        return NULL;
    memcpy(copy, ops, ops_size);
    if (flock_handler != NULL && ops_size < sizeof(next))
        ops_size = sizeof(next); /* so that libfuse sees the entry that we add */
    bool outermost = !inside;
    inside = true;
    if (outermost) {
        memcpy(&next, copy, sizeof(next));
        put_wrappers(copy);
    }
    struct fuse_session *made = versioned
        ? ((new_versioned)function)(args, copy, ops_size, version, userdata)
        : ((new_session)function)(args, copy, ops_size, userdata);
    free(copy); /* libfuse has made its own copy */
    if (outermost) {
        inside = false;
        sessions_made++;
        pthread_mutex_lock(&session_lock);
        session = made;
        pthread_mutex_unlock(&session_lock);
    }
    return made;
}

/* The names of all libfuse 3 so far. The C names differ from the symbols because newer headers make
 * fuse_session_new a macro or an inline function. */
#define EXPORT_PLAIN(c_name, symbol)                                                                     \
    EXPORTED struct fuse_session *c_name(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,    \
                                         size_t size, void *userdata) __asm__(symbol);                   \
    struct fuse_session *c_name(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,             \
                                size_t size, void *userdata) {                                           \
        return make_session(symbol, false, args, ops, size, NULL, userdata);                             \
    }
#define EXPORT_VERSIONED(c_name, symbol)                                                                 \
    EXPORTED struct fuse_session *c_name(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,    \
                                         size_t size, void *version, void *userdata) __asm__(symbol);    \
    struct fuse_session *c_name(struct fuse_args *args, const struct fuse_lowlevel_ops *ops,             \
                                size_t size, void *version, void *userdata) {                            \
        return make_session(symbol, true, args, ops, size, version, userdata);                           \
    }

EXPORT_PLAIN(exported_new, "fuse_session_new")
EXPORT_PLAIN(exported_new_30, "fuse_session_new_30")
EXPORT_VERSIONED(exported_new_versioned, "fuse_session_new_versioned")
EXPORT_VERSIONED(exported_new_317, "_fuse_session_new_317")
EXPORT_VERSIONED(exported_new_underscore, "_fuse_session_new")

static const char *const wanted_symbols[] = {
    "fuse_session_new", "fuse_session_new_30", "fuse_session_new_versioned", "_fuse_session_new_317",
    "_fuse_session_new", "fuse_session_mount", "fuse_session_destroy",
};

/* libfuse before 3.17 never tells the kernel FUSE_PARALLEL_DIROPS, whatever a filesystem wants. Without it
 * the kernel holds a mutex of the directory during each lookup and readdir in it: behind one that waits for
 * the network, all others of that directory wait in D, where no Ctrl-C reaches them. So there the reply to
 * FUSE_INIT passes through a writev of ours. */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 13)
#define PARALLEL_BY_ITSELF 317 /* from this fuse_version() on */

static ssize_t plain_read(int fd, void *buffer, size_t size, void *userdata) {
    (void)userdata;
    return read(fd, buffer, size);
}

/* A handle that goes past the kernel's pages (direct_io.py) may be mapped all the same: kernels from 6.6 on
 * do that when they are told so, older ones ignore it and refuse a shared mapping of such a handle. */
#define DIRECT_IO_ALLOW_MMAP (1u << (36 - 32)) /* in flags2; not in the headers of older kernels */

static void allow_mapping(struct fuse_init_out *reply, size_t size) {
    if (size >= offsetof(struct fuse_init_out, flags2) + sizeof(reply->flags2)) {
        reply->flags |= FUSE_INIT_EXT;
        reply->flags2 |= DIRECT_IO_ALLOW_MMAP;
    }
}

static ssize_t patching_writev(int fd, struct iovec *parts, int count, void *userdata) {
    (void)userdata;
    if (must_allow_parallel && count == 2 && parts[1].iov_len >= offsetof(struct fuse_init_out, max_background)) {
        const struct fuse_out_header *header = parts[0].iov_base;
        if (header->unique != 0 && header->error == 0) { /* not a notification of another thread */
            struct fuse_init_out *reply = parts[1].iov_base;
            reply->flags |= FUSE_PARALLEL_DIROPS;
            allow_mapping(reply, parts[1].iov_len);
            must_allow_parallel = false;
        }
    }
    return writev(fd, parts, count);
}

static int patch_replies(struct fuse_session *mounted) {
    static const struct fuse_custom_io patching = {.read = plain_read, .writev = patching_writev};
    int (*custom_io)(struct fuse_session *, const struct fuse_custom_io *, int) =
        dlsym(RTLD_NEXT, "fuse_session_custom_io");
    if (custom_io == NULL || fuse_version() >= PARALLEL_BY_ITSELF)
        return 0;
    return custom_io(mounted, &patching, fuse_session_fd(mounted));
}
#else
static int patch_replies(struct fuse_session *mounted) {
    (void)mounted;
    return 0; /* no way in: lookups stay one at a time in a directory */
}
#endif

EXPORTED int exported_mount(struct fuse_session *unmounted, const char *mountpoint)
    __asm__("fuse_session_mount");
int exported_mount(struct fuse_session *unmounted, const char *mountpoint) {
    int (*function)(struct fuse_session *, const char *) = real("fuse_session_mount");
    int error = function == NULL ? -1 : function(unmounted, mountpoint);
    if (error != 0)
        return error;
    session_fd = fuse_session_fd(unmounted);
    return patch_replies(unmounted);
}

#define DESTROY_WAIT_S 2

/* Called by pyfuse3.close(). A notification that is still stuck then (the connection was not aborted
 * first) keeps the session's memory: the process is about to end, and freeing it would be worse. */
EXPORTED void exported_destroy(struct fuse_session *going) __asm__("fuse_session_destroy");
void exported_destroy(struct fuse_session *going) {
    answer_all_flocks(ENOTCONN);
    session_fd = -1;
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DESTROY_WAIT_S;
    pthread_mutex_lock(&session_lock);
    if (session == going)
        session = NULL;
    while (notifications > 0 && pthread_cond_timedwait(&no_notification, &session_lock, &deadline) == 0)
        ;
    bool in_use = notifications > 0;
    pthread_mutex_unlock(&session_lock);
    void (*function)(struct fuse_session *) = real("fuse_session_destroy");
    if (!in_use && function != NULL)
        function(going);
}

#include "notices.h"

#include "guard.h"

/* ---- The module ---------------------------------------------------------------------------------- */

static PyObject *set_opendir_policy(PyObject *module, PyObject *policy) {
    (void)module;
    if (policy == Py_None) {
        Py_CLEAR(opendir_policy);
    } else {
        Py_INCREF(policy);
        Py_XSETREF(opendir_policy, policy);
    }
    Py_RETURN_NONE;
}

static PyObject *session_count(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(sessions_made);
}

static PyObject *last_setxattr_flags(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromLong(setxattr_flags);
}

static PyObject *interrupt_count(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(interrupts_seen);
}

/* The file that a global look-up of the symbol ends in, or None when nothing global has it. */
static PyObject *provider(const char *symbol) {
    Dl_info found;
    void *function = dlsym(RTLD_DEFAULT, symbol);
    if (function == NULL || dladdr(function, &found) == 0)
        Py_RETURN_NONE;
    return PyUnicode_DecodeFSDefault(found.dli_fname);
}

static PyObject *overridden(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    Dl_info ours;
    if (dladdr((void *)&current, &ours) == 0)
        return PyErr_Format(PyExc_ImportError, "the dynamic linker does not know the bridge");
    PyObject *others = PyDict_New();
    for (size_t i = 0; others != NULL && i < Py_ARRAY_LENGTH(wanted_symbols); i++) {
        Dl_info found;
        void *function = dlsym(RTLD_DEFAULT, wanted_symbols[i]);
        if (function != NULL && dladdr(function, &found) != 0 && found.dli_fbase == ours.dli_fbase)
            continue;
        PyObject *file = provider(wanted_symbols[i]);
        if (file == NULL || PyDict_SetItemString(others, wanted_symbols[i], file) < 0)
            Py_CLEAR(others);
        Py_XDECREF(file);
    }
    return others;
}

static PyMethodDef module_methods[] = {
    {"take_request", take_request, METH_NOARGS,
     "The request whose handler begins, or None when it was taken already; empties the slot."},
    {"set_opendir_policy", set_opendir_policy, METH_O,
     "Set the callable inode -> bool that says whether the kernel may keep its listing; None: never."},
    {"set_writer", set_writer, METH_O,
     "Set the callable (handle, offset, view) -> bool that may write on the spot; None: all goes to the handler."},
    {"request_comes", request_comes, METH_O,
     "Whether the kernel has a request for us, now or within so many nanoseconds."},
    {"set_flock_handler", set_flock_handler, METH_O,
     "Before a session is made: set what is called with each Flock; None: the kernel answers flock itself."},
    {"set_release_hook", set_release_hook, METH_O,
     "Set the callable (inode, handle, lock owner) for each last close of a file that flock was tried on."},
    {"session_count", session_count, METH_NOARGS, "How many FUSE sessions were made through the bridge."},
    {"setxattr_flags", last_setxattr_flags, METH_NOARGS,
     "XATTR_CREATE and XATTR_REPLACE of a setxattr, at the first line of its handler."},
    {"interrupt_count", interrupt_count, METH_NOARGS, "How many interrupts the kernel has sent."},
    {"invalidate_listing", invalidate_listing, METH_O,
     "Drop the kernel's cached listing and attributes of a directory; returns an errno or 0."},
    {"abort_connection", abort_now, METH_VARARGS,
     "Abort a FUSE connection if it is still the one described; returns an errno or 0."},
    {"start_guard", start_guard, METH_VARARGS,
     "Fork the guard of a connection; returns its process id and the descriptor of its heartbeat pipe."},
    {"overridden", overridden, METH_NOARGS,
     "Symbols that pyfuse3 would not find in the bridge, with the file that has them instead (or None)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "procorefs.kernel.bridge._bridge",
    .m_doc = "Stands between pyfuse3 and libfuse.",
    .m_size = -1,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__bridge(void) {
    if (PyType_Ready(&RequestType) < 0 || PyType_Ready(&FlockType) < 0 || PyType_Ready(&NoticesType) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&module_definition);
    if (module == NULL)
        return NULL;
    if (PyModule_AddObjectRef(module, "Request", (PyObject *)&RequestType) < 0 ||
        PyModule_AddObjectRef(module, "Flock", (PyObject *)&FlockType) < 0 ||
        PyModule_AddObjectRef(module, "Notices", (PyObject *)&NoticesType) < 0)
        Py_CLEAR(module);
    return module;
}
