/* The session: the functions that pyfuse3 finds in place of libfuse's, and the session that they make. */
#include "bridge.h"

#include <dlfcn.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static unsigned long sessions_made; /* sessions that pyfuse3 made through this file */

/* Keeps the session from being destroyed while another thread sends a notification. */
static pthread_mutex_t session_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t no_notification = PTHREAD_COND_INITIALIZER;
static struct fuse_session *session; /* under session_lock; NULL: none, or it is being destroyed */
static unsigned notifications;       /* under session_lock: threads that use the session */

struct fuse_session *borrow_session(void) {
    pthread_mutex_lock(&session_lock);
    struct fuse_session *borrowed = session;
    if (borrowed != NULL)
        notifications++;
    pthread_mutex_unlock(&session_lock);
    return borrowed;
}

void return_session(void) {
    pthread_mutex_lock(&session_lock);
    if (--notifications == 0)
        pthread_cond_broadcast(&no_notification);
    pthread_mutex_unlock(&session_lock);
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

/* pyfuse3's table may be longer or shorter than that of our headers: all of it is copied, and missing entries are
 * NULL and get no wrapper. versioned: which of the two forms to call. */
static struct fuse_session *make_session(const char *symbol, bool versioned, struct fuse_args *args,
                                         const struct fuse_lowlevel_ops *ops, size_t ops_size,
                                         void *version, void *userdata) {
    static bool inside; /* libfuse may implement one form by another, and so call ours again */
    void *function = real(symbol);
    if (function == NULL)
        return NULL;
    size_t room = ops_size > sizeof(pyfuse3_ops) ? ops_size : sizeof(pyfuse3_ops);
    struct fuse_lowlevel_ops *copy = calloc(1, room);
    if (copy == NULL)
        return NULL;
    memcpy(copy, ops, ops_size);
    if (handles_flock() && ops_size < sizeof(pyfuse3_ops))
        ops_size = sizeof(pyfuse3_ops); /* so that libfuse sees the entry that we add */
    bool outermost = !inside;
    inside = true;
    if (outermost) {
        memcpy(&pyfuse3_ops, copy, sizeof(pyfuse3_ops));
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
    "_fuse_session_new", "fuse_session_mount", "fuse_session_destroy", "fuse_session_receive_buf",
};

/* libfuse before 3.17 never requests FUSE_PARALLEL_DIROPS from the kernel. Without it, the kernel holds a mutex of
 * the directory during each lookup and readdir. While one of them waits for the network, all others in the directory
 * wait in state D, where no signal reaches them. So with these versions a writev of ours changes the reply to
 * FUSE_INIT. */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 13)
#define PARALLEL_BY_ITSELF 317 /* since this fuse_version() */

static ssize_t plain_read(int fd, void *buffer, size_t size, void *userdata) {
    (void)userdata;
    return read(fd, buffer, size);
}

/* A handle with direct I/O (direct_io.py) can be mapped since kernel 6.6 if the daemon asks for it. Older kernels
 * ignore the flag and refuse a shared mapping of such a handle. */
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
    return 0; /* this libfuse has no hook: a directory has one lookup at a time */
}
#endif

EXPORTED int exported_mount(struct fuse_session *unmounted, const char *mountpoint)
    __asm__("fuse_session_mount");
int exported_mount(struct fuse_session *unmounted, const char *mountpoint) {
    int (*function)(struct fuse_session *, const char *) = real("fuse_session_mount");
    int error = function == NULL ? -1 : function(unmounted, mountpoint);
    if (error != 0)
        return error;
    poll_descriptor(fuse_session_fd(unmounted));
    return patch_replies(unmounted);
}

#define DESTROY_WAIT_S 2

/* Called by pyfuse3.close(). While a notification is stuck (the connection was not aborted before), the session is
 * not freed: the thread uses it, and the process ends soon. */
EXPORTED void exported_destroy(struct fuse_session *ending) __asm__("fuse_session_destroy");
void exported_destroy(struct fuse_session *ending) {
    answer_all_flocks(ENOTCONN);
    poll_descriptor(-1);
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DESTROY_WAIT_S;
    pthread_mutex_lock(&session_lock);
    if (session == ending)
        session = NULL;
    while (notifications > 0 && pthread_cond_timedwait(&no_notification, &session_lock, &deadline) == 0)
        ;
    bool in_use = notifications > 0;
    pthread_mutex_unlock(&session_lock);
    void (*function)(struct fuse_session *) = real("fuse_session_destroy");
    if (!in_use && function != NULL)
        function(ending);
}

PyObject *session_count(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(sessions_made);
}

/* The file that provides the symbol in a global look-up, or None. */
static PyObject *provider(const char *symbol) {
    Dl_info found;
    void *function = dlsym(RTLD_DEFAULT, symbol);
    if (function == NULL || dladdr(function, &found) == 0)
        Py_RETURN_NONE;
    return PyUnicode_DecodeFSDefault(found.dli_fname);
}

PyObject *overridden(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    Dl_info ours;
    if (dladdr((void *)&sessions_made, &ours) == 0)
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
