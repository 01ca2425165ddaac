/* flock(2), for which pyfuse3 has no handler: passed to Python and answered later.
 *
 * Without a handler the operations table has no entry for flock, and the kernel handles flock itself. POSIX locks
 * (fcntl) never come here.
 *
 *     kernel -> libfuse -> wrap_flock -> flock_handler(Flock)   returns at once
 *                                   ... any time later ...      Flock.reply(errno)
 *
 * Only a Flock keeps a fuse_req_t after its wrapper has returned. The request is answered by reply, when the object
 * is deallocated (EIO: no code is left that could answer), or when the session ends (ENOTCONN). The answer clears
 * the pointer, so nothing is answered twice or after libfuse has freed it. All of this happens under the GIL.
 * Answering is safe inside the callback of an interrupt: libfuse holds a reference to the request there, and a lock
 * that fuse_reply_err does not take.
 */

#include "bridge.h"

typedef struct Flock {
    PyObject_HEAD
    PyObject *request;      /* owned; the Request through which it is interrupted */
    fuse_req_t unanswered;  /* NULL: answered */
    unsigned long long inode;
    unsigned long long handle;
    unsigned long long owner;
    int operation;
    struct Flock *previous; /* among the unanswered ones; not owned */
    struct Flock *next;
} Flock;

static PyObject *flock_handler; /* owned; called with each Flock; NULL: the kernel answers flock by itself */
static PyObject *release_hook;  /* owned; called with (inode, handle, lock owner) */
static Flock *unanswered_flocks;

bool handles_flock(void) { return flock_handler != NULL; }

/* Returns 0, or the errno of an answer that did not reach the caller (the connection is closed). */
static int answer_flock(Flock *self, int error) {
    fuse_req_t req = self->unanswered;
    self->unanswered = NULL;
    if (self->previous != NULL)
        self->previous->next = self->next;
    else
        unanswered_flocks = self->next;
    if (self->next != NULL)
        self->next->previous = self->previous;
    self->previous = self->next = NULL;
    return -fuse_reply_err(req, error);
}

/* For the end of the session: its requests must not be used after it is freed. */
void answer_all_flocks(int error) {
    PyGILState_STATE gil = PyGILState_Ensure();
    while (unanswered_flocks != NULL)
        answer_flock(unanswered_flocks, error);
    PyGILState_Release(gil);
}

static int flock_traverse(Flock *self, visitproc visit, void *arg) {
    Py_VISIT(self->request);
    return 0;
}

static int flock_clear(Flock *self) {
    Py_CLEAR(self->request);
    return 0;
}

static void flock_dealloc(Flock *self) {
    PyObject_GC_UnTrack(self);
    if (self->unanswered != NULL)
        answer_flock(self, EIO);
    flock_clear(self);
    PyObject_GC_Del(self);
}

static PyObject *flock_reply(Flock *self, PyObject *number) {
    long error = PyLong_AsLong(number);
    if (error == -1 && PyErr_Occurred())
        return NULL;
    if (error < 0 || error >= 4096) /* libfuse refuses other values */
        return PyErr_Format(PyExc_ValueError, "%ld is no errno", error);
    if (self->unanswered == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this flock was answered already");
        return NULL;
    }
    return PyLong_FromLong(answer_flock(self, (int)error));
}

static PyObject *flock_answered(Flock *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(self->unanswered == NULL);
}

static PyMethodDef flock_methods[] = {
    {"reply", (PyCFunction)flock_reply, METH_O,
     "Answer with an errno, or 0, exactly once; returns the errno of an answer that did not reach the caller, or 0."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef flock_members[] = {
    {"request", T_OBJECT, offsetof(Flock, request), READONLY, "The Request that the kernel can interrupt."},
    {"inode", T_ULONGLONG, offsetof(Flock, inode), READONLY, "Inode of the file."},
    {"handle", T_ULONGLONG, offsetof(Flock, handle), READONLY, "The handle that open returned."},
    {"owner", T_ULONGLONG, offsetof(Flock, owner), READONLY,
     "The open file description: the same for dup'ed and inherited descriptors."},
    {"operation", T_INT, offsetof(Flock, operation), READONLY, "LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef flock_properties[] = {
    {"answered", (getter)flock_answered, NULL, "Whether the kernel has the answer, or the session has ended.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject FlockType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "procorefs.kernel.bridge._bridge.Flock",
    .tp_doc = "One flock(2) that waits for its answer.",
    .tp_basicsize = sizeof(Flock),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)flock_traverse,
    .tp_clear = (inquiry)flock_clear,
    .tp_dealloc = (destructor)flock_dealloc,
    .tp_methods = flock_methods,
    .tp_members = flock_members,
    .tp_getset = flock_properties,
};

/* The new object answers the request. NULL with an exception: the caller must answer it. */
static Flock *new_flock(fuse_req_t req, fuse_ino_t ino, const struct fuse_file_info *fi, int operation) {
    PyObject *request = take_request(NULL, NULL);
    Flock *flock = request == NULL ? NULL : PyObject_GC_New(Flock, &FlockType);
    if (flock == NULL) {
        Py_XDECREF(request);
        return NULL;
    }
    flock->request = request;
    flock->unanswered = req;
    flock->inode = ino;
    flock->handle = fi->fh;
    flock->owner = fi->lock_owner;
    flock->operation = operation;
    flock->previous = NULL;
    flock->next = unanswered_flocks;
    if (unanswered_flocks != NULL)
        unanswered_flocks->previous = flock;
    unanswered_flocks = flock;
    PyObject_GC_Track(flock);
    return flock;
}

void wrap_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int operation) {
    time_request(req, REQUEST_flock);
    begin_request(req);
    PyGILState_STATE gil = PyGILState_Ensure();
    Flock *flock = new_flock(req, ino, fi, operation);
    if (flock == NULL) {
        PyErr_WriteUnraisable(NULL);
        fuse_reply_err(req, ENOMEM);
    } else {
        PyObject *handler = Py_XNewRef(flock_handler);
        PyObject *result = handler == NULL ? NULL : PyObject_CallOneArg(handler, (PyObject *)flock);
        if (result == NULL && PyErr_Occurred())
            PyErr_WriteUnraisable(handler);
        Py_XDECREF(result);
        Py_XDECREF(handler);
        Py_DECREF(flock); /* answers the request if the handler neither kept nor answered it */
    }
    PyGILState_Release(gil);
}

/* flock_release is set also after a refused lock, and for descriptors that hold no lock any more: the hook checks
 * what the owner holds. It runs before the kernel's next request is read, so a lock request after a close finds
 * the lock free. */
void wrap_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    if (fi->flock_release) {
        PyGILState_STATE gil = PyGILState_Ensure();
        PyObject *hook = Py_XNewRef(release_hook);
        if (hook != NULL) {
            PyObject *result = PyObject_CallFunction(hook, "KKK", (unsigned long long)ino,
                                                     (unsigned long long)fi->fh,
                                                     (unsigned long long)fi->lock_owner);
            if (result == NULL)
                PyErr_WriteUnraisable(hook);
            Py_XDECREF(result);
            Py_DECREF(hook);
        }
        PyGILState_Release(gil);
    }
    time_request(req, REQUEST_release);
    begin_request(req);
    pyfuse3_ops.release(req, ino, fi);
}

PyObject *set_flock_handler(PyObject *module, PyObject *handler) {
    (void)module;
    set_callable(&flock_handler, handler);
    Py_RETURN_NONE;
}

PyObject *set_release_hook(PyObject *module, PyObject *hook) {
    (void)module;
    set_callable(&release_hook, hook);
    Py_RETURN_NONE;
}
