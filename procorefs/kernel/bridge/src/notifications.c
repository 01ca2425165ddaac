/* Kernel notifications, sent in batches by threads that do not hold the GIL.
 *
 * A notification may block as long as a request for which it must wait (an entry during a mkdir in its folder, an
 * inode during a READ of it), so only threads send them. Several threads may work on one batch: each claims one job
 * after the other, so a stuck thread delays its own job only. A batch of 10,000 takes milliseconds, because no
 * thread takes the GIL between two jobs.
 */

#include "bridge.h"

#include <pthread.h>
#include <time.h>

enum job_state { JOB_WAITING, JOB_CLAIMED, JOB_DONE, JOB_REPORTED };

struct job {
    fuse_ino_t inode;
    const char *name; /* points into self->asked; NULL: the inode's data and attributes */
    size_t name_size;
    int error; /* positive errno, or 0; valid from JOB_DONE on */
    enum job_state state;
};

typedef struct {
    PyObject_HEAD
    PyObject *asked; /* the tuple of (inode, name) that keeps the names alive */
    struct job *jobs;
    size_t count;
    pthread_mutex_t lock;
    /* Under lock: */
    size_t claimed;        /* jobs before this one were claimed */
    int64_t last_claim_ns; /* CLOCK_MONOTONIC; 0: none yet */
    bool stopped;          /* nothing more is claimed */
} NotificationBatch;

/* Returns 0 or a positive errno. May block. */
static int notify(fuse_ino_t inode, const char *name, size_t name_size) {
    struct fuse_session *borrowed = borrow_session();
    if (borrowed == NULL)
        return ENOTCONN;
    int error = name == NULL ? -fuse_lowlevel_notify_inval_inode(borrowed, inode, 0, 0)
                             : -fuse_lowlevel_notify_inval_entry(borrowed, inode, name, name_size);
    return_session();
    return error;
}

static struct job *claim(NotificationBatch *self) {
    struct job *job = NULL;
    pthread_mutex_lock(&self->lock);
    if (!self->stopped && self->claimed < self->count) {
        job = &self->jobs[self->claimed++];
        job->state = JOB_CLAIMED;
        self->last_claim_ns = monotonic_ns();
    }
    pthread_mutex_unlock(&self->lock);
    return job;
}

static void complete(NotificationBatch *self, struct job *job, int error) {
    pthread_mutex_lock(&self->lock);
    job->error = error;
    job->state = JOB_DONE;
    pthread_mutex_unlock(&self->lock);
}

static PyObject *batch_carry_out(NotificationBatch *self, PyObject *unused) {
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    struct job *job;
    while ((job = claim(self)) != NULL)
        complete(self, job, notify(job->inode, job->name, job->name_size));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *batch_stop(NotificationBatch *self, PyObject *unused) {
    (void)unused;
    pthread_mutex_lock(&self->lock);
    self->stopped = true;
    pthread_mutex_unlock(&self->lock);
    Py_RETURN_NONE;
}

/* Copies the new indices under the lock and builds the list afterwards: creating objects may run any Python code. */
static PyObject *batch_finished(NotificationBatch *self, PyObject *unused) {
    (void)unused;
    Py_ssize_t *indices = PyMem_Calloc(self->count, sizeof(*indices));
    if (indices == NULL)
        return PyErr_NoMemory();
    size_t found = 0;
    pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->claimed; i++) {
        if (self->jobs[i].state == JOB_DONE) {
            self->jobs[i].state = JOB_REPORTED;
            indices[found++] = (Py_ssize_t)i;
        }
    }
    pthread_mutex_unlock(&self->lock);
    PyObject *report = PyList_New((Py_ssize_t)found);
    for (size_t i = 0; report != NULL && i < found; i++) {
        PyObject *row = Py_BuildValue("(ni)", indices[i], self->jobs[indices[i]].error);
        if (row == NULL)
            Py_CLEAR(report);
        else
            PyList_SET_ITEM(report, (Py_ssize_t)i, row);
    }
    PyMem_Free(indices);
    return report;
}

static PyObject *batch_unclaimed(NotificationBatch *self, void *unused) {
    (void)unused;
    pthread_mutex_lock(&self->lock);
    size_t unclaimed = self->stopped ? 0 : self->count - self->claimed;
    pthread_mutex_unlock(&self->lock);
    return PyLong_FromSize_t(unclaimed);
}

static PyObject *batch_quiet_s(NotificationBatch *self, void *unused) {
    (void)unused;
    pthread_mutex_lock(&self->lock);
    int64_t last_claim_ns = self->last_claim_ns;
    pthread_mutex_unlock(&self->lock);
    return PyFloat_FromDouble(last_claim_ns == 0 ? 0.0 : (double)(monotonic_ns() - last_claim_ns) / 1e9);
}

static int fill_job(struct job *job, PyObject *pair) {
    unsigned long long inode;
    PyObject *name;
    if (!PyArg_ParseTuple(pair, "KO;a job is (inode, name or None)", &inode, &name))
        return -1;
    job->inode = inode;
    if (name == Py_None)
        return 0;
    if (!PyBytes_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "a name is bytes");
        return -1;
    }
    job->name = PyBytes_AS_STRING(name);
    job->name_size = (size_t)PyBytes_GET_SIZE(name);
    return 0;
}

static PyObject *batch_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    (void)keywords;
    PyObject *asked;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &asked))
        return NULL;
    NotificationBatch *self = (NotificationBatch *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    pthread_mutex_init(&self->lock, NULL);
    self->asked = Py_NewRef(asked);
    self->count = (size_t)PyTuple_GET_SIZE(asked);
    self->jobs = PyMem_Calloc(self->count, sizeof(struct job));
    if (self->jobs == NULL)
        PyErr_NoMemory();
    for (size_t i = 0; self->jobs != NULL && !PyErr_Occurred() && i < self->count; i++) {
        PyObject *pair = PyTuple_GET_ITEM(asked, (Py_ssize_t)i);
        if (!PyTuple_CheckExact(pair)) /* a list could change while threads use it */
            PyErr_SetString(PyExc_TypeError, "a job is a tuple (inode, name or None)");
        else
            fill_job(&self->jobs[i], pair);
    }
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void batch_dealloc(NotificationBatch *self) {
    PyMem_Free(self->jobs);
    Py_XDECREF(self->asked);
    pthread_mutex_destroy(&self->lock);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef batch_methods[] = {
    {"carry_out", (PyCFunction)batch_carry_out, METH_NOARGS,
     "Carry out unclaimed jobs until none is left; blocks, without the GIL."},
    {"stop", (PyCFunction)batch_stop, METH_NOARGS, "Drop the unclaimed jobs."},
    {"finished", (PyCFunction)batch_finished, METH_NOARGS,
     "List (index, errno) of the jobs that were carried out since the last call."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef batch_values[] = {
    {"unclaimed", (getter)batch_unclaimed, NULL, "Jobs that no thread has begun.", NULL},
    {"quiet_s", (getter)batch_quiet_s, NULL, "Seconds since a thread last began a job.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject NotificationBatchType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "procorefs.kernel.bridge._bridge.NotificationBatch",
    .tp_doc = "A batch of kernel notifications: a tuple of (inode, name), name None for the inode itself.",
    .tp_basicsize = sizeof(NotificationBatch),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = batch_new,
    .tp_dealloc = (destructor)batch_dealloc,
    .tp_methods = batch_methods,
    .tp_getset = batch_values,
};

/* Notifies of a directory's inode on the calling thread: the only notification that the loop may send itself. */
PyObject *invalidate_listing(PyObject *module, PyObject *folder) {
    (void)module;
    unsigned long long inode = PyLong_AsUnsignedLongLong(folder);
    if (PyErr_Occurred())
        return NULL;
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = notify(inode, NULL, 0);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(error);
}
