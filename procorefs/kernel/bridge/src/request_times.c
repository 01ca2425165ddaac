/* How long the kernel's requests take, by kind: from the wrapper that begins a request to its reply.
 *
 *     wrapper -> time_request(req) -> ... -> fuse_reply_err, fuse_reply_attr, ... (ours) -> count -> libfuse's
 *
 * Like fuse_session_new, the reply functions are exported, so that pyfuse3 finds ours first. All of this costs two
 * reads of the clock and a look-up in a table for each request, 58 ns together. A request whose reply goes another way is
 * not counted; its entry stays until libfuse uses the same memory for another request.
 *
 * Only the thread of the loop uses the table, without a lock. A reply from another thread is not counted: the
 * garbage collector may run in any thread and deallocate a Flock there.
 */
#include "bridge.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

/* Upper bounds of the buckets, in nanoseconds; the last bucket has none. */
static const long long bounds_ns[] = {
    50000, 200000, 1000000, 5000000, 20000000, 100000000, 500000000, 2000000000, 10000000000, 30000000000,
};
#define LATENCY_BUCKETS (Py_ARRAY_LENGTH(bounds_ns) + 1)

static const char *const kind_names[REQUEST_KINDS] = {
#define NAME(name) #name,
    EACH_REQUEST_KIND(NAME)
#undef NAME
};

static struct {
    unsigned long long counts[LATENCY_BUCKETS];
    unsigned long long total_ns;
} measured[REQUEST_KINDS];

#define SLOT_BITS 14 /* four times the requests that are answered at a time (session.py, MOST_REQUESTS) */
#define SLOTS (1u << SLOT_BITS)

static struct slot {
    fuse_req_t req; /* NULL: free */
    long long began_ns;
    enum request_kind kind;
} slots[SLOTS];

static unsigned slots_used;
static pthread_t loop_thread;

static unsigned home_of(fuse_req_t req) {
    return (unsigned)(((uint64_t)(uintptr_t)req * 0x9e3779b97f4a7c15u) >> (64 - SLOT_BITS));
}

/* The slot of a request, or the free slot where it belongs. There is always a free one. */
static unsigned find_slot(fuse_req_t req) {
    unsigned at = home_of(req);
    while (slots[at].req != NULL && slots[at].req != req)
        at = (at + 1) % SLOTS;
    return at;
}

/* Frees a slot, and moves later ones into the gap that a look-up must not meet (linear probing). */
static void free_slot(unsigned gap) {
    slots[gap].req = NULL;
    slots_used--;
    for (unsigned at = (gap + 1) % SLOTS; slots[at].req != NULL; at = (at + 1) % SLOTS) {
        unsigned home = home_of(slots[at].req);
        if ((at - home) % SLOTS >= (at - gap) % SLOTS) {
            slots[gap] = slots[at];
            slots[at].req = NULL;
            gap = at;
        }
    }
}

void time_request(fuse_req_t req, enum request_kind kind) {
    struct slot *slot = &slots[find_slot(req)];
    if (slot->req == NULL) {
        if (slots_used > SLOTS / 2)
            return; /* not counted */
        slots_used++;
    } /* else the memory of an earlier request, whose time must not count */
    loop_thread = pthread_self();
    *slot = (struct slot){.req = req, .began_ns = monotonic_ns(), .kind = kind};
}

static void request_ended(fuse_req_t req) {
    if (!pthread_equal(pthread_self(), loop_thread))
        return;
    unsigned at = find_slot(req);
    if (slots[at].req == NULL)
        return;
    long long took_ns = monotonic_ns() - slots[at].began_ns;
    unsigned bucket = 0;
    while (bucket < Py_ARRAY_LENGTH(bounds_ns) && took_ns > bounds_ns[bucket])
        bucket++;
    measured[slots[at].kind].counts[bucket]++;
    measured[slots[at].kind].total_ns += (unsigned long long)took_ns;
    free_slot(at);
}

/* Our reply function: counts, then calls the one of libfuse. */
#define REPLY(name, parameters, arguments)                          \
    EXPORTED int name parameters;                                   \
    int name parameters {                                           \
        static int(*function) parameters;                           \
        if (function == NULL)                                       \
            *(void **)&function = dlsym(RTLD_NEXT, #name);          \
        request_ended(req);                                         \
        return function == NULL ? -ENOSYS : function arguments;     \
    }

REPLY(fuse_reply_err, (fuse_req_t req, int err), (req, err))
REPLY(fuse_reply_entry, (fuse_req_t req, const struct fuse_entry_param *e), (req, e))
REPLY(fuse_reply_create,
      (fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi), (req, e, fi))
REPLY(fuse_reply_attr, (fuse_req_t req, const struct stat *attr, double attr_timeout), (req, attr, attr_timeout))
REPLY(fuse_reply_readlink, (fuse_req_t req, const char *link), (req, link))
REPLY(fuse_reply_open, (fuse_req_t req, const struct fuse_file_info *fi), (req, fi))
REPLY(fuse_reply_write, (fuse_req_t req, size_t count), (req, count))
REPLY(fuse_reply_buf, (fuse_req_t req, const char *buf, size_t size), (req, buf, size))
REPLY(fuse_reply_statfs, (fuse_req_t req, const struct statvfs *stbuf), (req, stbuf))
REPLY(fuse_reply_xattr, (fuse_req_t req, size_t count), (req, count))
REPLY(fuse_reply_poll, (fuse_req_t req, unsigned revents), (req, revents))

/* The bounds in seconds. */
PyObject *latency_bounds(void) {
    PyObject *bounds = PyTuple_New(Py_ARRAY_LENGTH(bounds_ns));
    for (size_t i = 0; bounds != NULL && i < Py_ARRAY_LENGTH(bounds_ns); i++) {
        PyObject *bound = PyFloat_FromDouble((double)bounds_ns[i] / 1e9);
        if (bound == NULL)
            Py_CLEAR(bounds);
        else
            PyTuple_SET_ITEM(bounds, i, bound);
    }
    return bounds;
}

static PyObject *times_of(enum request_kind kind) {
    PyObject *counts = PyTuple_New(LATENCY_BUCKETS);
    for (size_t i = 0; counts != NULL && i < LATENCY_BUCKETS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(measured[kind].counts[i]);
        if (count == NULL)
            Py_CLEAR(counts);
        else
            PyTuple_SET_ITEM(counts, i, count);
    }
    return counts == NULL ? NULL : Py_BuildValue("(N d)", counts, (double)measured[kind].total_ns / 1e9);
}

PyObject *request_times(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    PyObject *found = PyDict_New();
    for (int kind = 0; found != NULL && kind < REQUEST_KINDS; kind++) {
        bool any = false;
        for (size_t i = 0; i < LATENCY_BUCKETS; i++)
            any = any || measured[kind].counts[i] > 0;
        if (!any)
            continue;
        PyObject *times = times_of((enum request_kind)kind);
        if (times == NULL || PyDict_SetItemString(found, kind_names[kind], times) < 0)
            Py_CLEAR(found);
        Py_XDECREF(times);
    }
    return found;
}
