/* The fast path: a write that waits for nothing is answered without a coroutine, and a request that follows right
 * after another one is received without a pass of the event loop. Each of the two halves the cost of a small write.
 *
 * Every other write (no dirty file yet, no space, an error) goes to the handler: the writer answers "done" or
 * "to the handler", and in the second case it has done nothing that may not be done again.
 */
#include "bridge.h"

#include <poll.h>
#include <sched.h>
#include <time.h>

static PyObject *writer; /* owned; called with (handle, offset, memoryview); NULL: all writes go to the handler */

/* Whether the writer has written all of the bytes. It may not keep the view: they are libfuse's. */
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
            PyErr_Clear(); /* the handler meets the same error, and reports it */
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

#define SPIN_NS 20000L /* most programs send their next request sooner than a sleep and a wake-up take */

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Poll in a loop for SPIN_NS, then sleep in poll; returns what poll(2) returns. */
static int await_request(struct pollfd *device, long long wait_ns) {
    struct timespec at_once = {0, 0};
    long long began = now_ns(), passed = 0;
    for (; passed < wait_ns && passed < SPIN_NS; passed = now_ns() - began) {
        int ready = ppoll(device, 1, &at_once, NULL);
        if (ready != 0)
            return ready;
        sched_yield(); /* where there is one processor, the program needs it */
    }
    long long left = passed < wait_ns ? wait_ns - passed : 0;
    struct timespec wait = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
    return ppoll(device, 1, &wait, NULL);
}

/* Whether the kernel has a request for us, now or within so many nanoseconds. An error of the descriptor counts
 * as a request: reading it tells which error. */
PyObject *request_comes(PyObject *module, PyObject *within_ns) {
    (void)module;
    long long wait_ns = PyLong_AsLongLong(within_ns);
    if (wait_ns == -1 && PyErr_Occurred())
        return NULL;
    struct pollfd device = {.fd = session_fd, .events = POLLIN};
    int ready;
    Py_BEGIN_ALLOW_THREADS
    ready = await_request(&device, wait_ns);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(ready > 0);
}
