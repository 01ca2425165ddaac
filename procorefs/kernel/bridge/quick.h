/* The quick ways: a write that waits for nothing is answered without a coroutine, and a request that comes right
 * after another one is taken without a turn of the loop. Each of the two is half of what a small write costs.
 *
 * Part of bridge.c. Everything else about a write (no draft yet, no room, an error to be told) goes the usual way:
 * the writer only ever says "done" or "as usual", and then nothing was done that may not be done again.
 */

static PyObject *writer; /* owned; called with (handle, offset, memoryview); NULL: all writes go the usual way */

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
            PyErr_Clear(); /* the usual way meets the same error, and reports it */
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

static void wrap_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *bufv, off_t off,
                           struct fuse_file_info *fi) {
    const struct fuse_buf *only = &bufv->buf[0];
    bool in_memory = bufv->count == 1 && bufv->idx == 0 && (only->flags & FUSE_BUF_IS_FD) == 0;
    if (in_memory && written_at_once(fi->fh, off, (char *)only->mem + bufv->off, only->size - bufv->off)) {
        current.serial = 0;
        fuse_reply_write(req, only->size - bufv->off);
        return;
    }
    begin(req);
    next.write_buf(req, ino, bufv, off, fi);
}

static PyObject *set_writer(PyObject *module, PyObject *callee) {
    (void)module;
    if (callee == Py_None) {
        Py_CLEAR(writer);
    } else {
        Py_INCREF(callee);
        Py_XSETREF(writer, callee);
    }
    Py_RETURN_NONE;
}

static int session_fd = -1; /* of the mounted session */

#define SPIN_NS 20000L /* to fall asleep and to be woken takes longer than most programs need for their next request */

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Look again and again for a while, then sleep; what poll(2) returns. */
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

/* Whether the kernel has a request for us, now or within so many nanoseconds; an error of the descriptor is one,
 * too, for reading it says which. */
static PyObject *request_comes(PyObject *module, PyObject *within_ns) {
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
