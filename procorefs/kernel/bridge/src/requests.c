/* Requests: which request of the kernel is being handled, and how an interrupt finds its handler.
 *
 * Only an unanswered Flock (flock_requests.c) holds a fuse_req_t after its wrapper has returned. An interrupt
 * finds its Request by a serial number that is never reused, so a late interrupt, or one for a Request that was
 * kept too long, finds nothing and no freed memory.
 */
#include "bridge.h"

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "serial numbers travel through void *");

#define BUCKETS 1024 /* a power of two; chains stay short up to several thousand waiting requests */

typedef struct Request {
    PyObject_HEAD
    uint64_t serial;      /* unique for the life of the process */
    long tid;             /* thread that made the system call; 0: it is outside our PID namespace */
    unsigned int uid;     /* its user */
    bool interrupted;
    bool finished;        /* false: it is in its bucket */
    PyObject *callback;   /* owned; NULL: interrupts are ignored */
    struct Request *next; /* in the bucket; not owned: finish and dealloc remove the entry */
} Request;

/* The request whose C handler ran last and whose coroutine has not taken it yet; serial 0: none. */
static struct {
    uint64_t serial;
    long tid;
    unsigned int uid;
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

/* Calls Python's callback for the interrupt. libfuse holds the lock of this request meanwhile. No code that runs
 * here calls libfuse with the request, because a Request has no fuse_req_t (but see flock_requests.c). */
static void deliver(Request *request) {
    request->interrupted = true;
    PyObject *callback = request->callback;
    if (callback == NULL)
        return;
    Py_INCREF(callback); /* it may finish the request, which drops the callback */
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
        current.interrupted = true; /* its coroutine has not begun: take_request passes this on */
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

/* Called before pyfuse3 sees the request. */
void begin_request(fuse_req_t req) {
    current.serial = ++last_serial;
    current.tid = (long)fuse_req_ctx(req)->pid;
    current.uid = fuse_req_ctx(req)->uid;
    current.interrupted = false;
    /* Calls interrupted() immediately if the interrupt arrived before the request. */
    fuse_req_interrupt_func(req, interrupted, (void *)(uintptr_t)current.serial);
}

void clear_current_request(void) { current.serial = 0; }

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
        PyErr_SetString(PyExc_RuntimeError, "this request is finished and cannot be interrupted");
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
     "Call back on the loop's thread when the kernel interrupts this request; immediately if it has done so."},
    {"finish", (PyCFunction)request_finish, METH_NOARGS,
     "Drop the callback: nothing interrupts this request any more. May be called again."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef request_members[] = {
    {"tid", T_LONG, offsetof(Request, tid), READONLY, "Calling thread; 0: outside our PID namespace."},
    {"uid", T_UINT, offsetof(Request, uid), READONLY, "User of the calling thread."},
    {"interrupted", T_BOOL, offsetof(Request, interrupted), READONLY, "The kernel has interrupted it."},
    {"finished", T_BOOL, offsetof(Request, finished), READONLY, "Nothing can interrupt it any more."},
    {NULL, 0, 0, 0, NULL},
};

PyTypeObject RequestType = {
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

PyObject *take_request(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    if (current.serial == 0)
        Py_RETURN_NONE;
    Request *request = PyObject_GC_New(Request, &RequestType);
    if (request == NULL)
        return NULL;
    request->serial = current.serial;
    request->tid = current.tid;
    request->uid = current.uid;
    request->interrupted = current.interrupted;
    request->callback = NULL;
    request->finished = false;
    request->next = *bucket_of(request->serial);
    *bucket_of(request->serial) = request;
    current.serial = 0;
    PyObject_GC_Track(request);
    return (PyObject *)request;
}

PyObject *interrupt_count(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLong(interrupts_seen);
}
