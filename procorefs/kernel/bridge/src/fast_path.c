/* The fast path: a write that need not wait is answered without a coroutine, and a request that comes immediately
 * after another one is received without a pass of the event loop. Each of these halves the cost of a small write.
 *
 * Every other write (no dirty file yet, no space, an error) goes to the handler: the writer returns whether it has
 * written the bytes. If it has not, it has changed nothing that the handler would not change again.
 */
#include "bridge.h"

#include <poll.h>
#include <sched.h>
#include <time.h>

static PyObject *writer; /* owned; called with (handle, offset, memoryview); NULL: all writes go to the handler */

/* Whether the writer has written all bytes. It must not keep the view: the bytes belong to libfuse. */
static bool written_at_once(uint64_t handle, off_t offset, char *bytes, size_t size) {
    bool done = false;
    PyGILState_STATE gil = PyGILState_Ensure();
    if (writer != NULL) {
        PyObject *callee = Py_NewRef(writer);
        PyObject *view = PyMemoryView_FromMemory(bytes, (Py_ssize_t)size, PyBUF_READ);
        PyObject *answer = view == NULL ? NULL
            : PyObject_CallFunction(callee, "KLO", (unsigned long long)handle, (long long)offset, view);
        done = answer == Py_True;
        if (answer == NULL)
            PyErr_Clear(); /* the handler gets the same error and reports it */
        Py_XDECREF(answer);
        PyObject *released = view == NULL ? NULL : PyObject_CallMethod(view, "release", NULL);
        if (released == NULL)
            PyErr_WriteUnraisable(callee);
        Py_XDECREF(released);
        Py_XDECREF(view);
        Py_DECREF(callee);
    }
    PyGILState_Release(gil);
    return done;
}

void wrap_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *bufv, off_t off,
                           struct fuse_file_info *fi) {
    time_request(req, REQUEST_write);
    const struct fuse_buf *only = &bufv->buf[0];
    bool in_memory = bufv->count == 1 && bufv->idx == 0 && (only->flags & FUSE_BUF_IS_FD) == 0;
    if (in_memory && written_at_once(fi->fh, off, (char *)only->mem + bufv->off, only->size - bufv->off)) {
        clear_current_request();
        fuse_reply_write(req, only->size - bufv->off);
        return;
    }
    begin_request(req);
    pyfuse3_ops.write_buf(req, ino, bufv, off, fi);
}

PyObject *set_writer(PyObject *module, PyObject *callee) {
    (void)module;
    set_callable(&writer, callee);
    Py_RETURN_NONE;
}

static int session_fd = -1;

void poll_descriptor(int fd) { session_fd = fd; }

#define SPIN_NS 20000L /* most programs send their next request in less time than a sleep and a wake-up take */

long long monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Poll in a loop for SPIN_NS, then sleep in poll. */
int await_request(long long wait_ns) {
    struct pollfd device = {.fd = session_fd, .events = POLLIN};
    struct timespec at_once = {0, 0};
    long long began = monotonic_ns(), passed = 0;
    for (; passed < wait_ns && passed < SPIN_NS; passed = monotonic_ns() - began) {
        int ready = ppoll(&device, 1, &at_once, NULL);
        if (ready != 0)
            return ready;
        sched_yield(); /* with one processor, the program needs it */
    }
    long long left = passed < wait_ns ? wait_ns - passed : 0;
    struct timespec wait = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    return ppoll(&device, 1, &wait, NULL);
}

static bool polls;

bool loop_polls(void) { return polls; }

/* Whether the kernel has a request, now or within this number of nanoseconds. An error of the descriptor counts
 * as a request: read(2) returns the error. */
PyObject *request_comes(PyObject *module, PyObject *within_ns) {
    (void)module;
    polls = true;
    long long wait_ns = PyLong_AsLongLong(within_ns);
    if (wait_ns == -1 && PyErr_Occurred())
        return NULL;
    int ready;
    Py_BEGIN_ALLOW_THREADS
    ready = await_request(wait_ns);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(ready > 0);
}
