/* Granted reads: a READ of bytes that lie in an open file is answered here, without Python.
 *
 *     read handler -> grant_read(handle, file, range) -> next READ in the range -> preadv2 -> reply, here
 *     any other request, and before any other task runs -> the grants end
 *
 * A grant says that the bytes of a file are in another one until Python runs again. The handler of a READ makes it
 * where it replies without waiting; from there to the next request no other task runs (request_polling.py). So nobody
 * can write, truncate, remove or close the file while a grant is valid, and nobody has to withdraw it then.
 *
 * For the same reason the grants of other handles survive a READ that Python answers without waiting, and no other
 * request: `suspended` means that one READ is with Python, and only a new grant, made by its handler, makes the
 * others valid again.
 */
#include "bridge.h"

#include <dlfcn.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define LONGEST_NS 1000000L /* then the loop decides whether other tasks must run */
#define NEXT_REQUEST_NS 50000L
#define GRANTS 64
#define MOST_BYTES (1u << 20) /* of one READ (READ_AHEAD_KIB, max_pages) */

static struct grant {
    uint64_t handle;
    int fd;
    uint64_t low, high; /* the range of the file that is read */
    uint64_t start;     /* where `low` is in `fd` */
    bool is_end;        /* `high` is the end of the file: a READ beyond it is short */
} grants[GRANTS];

static unsigned granted, next_place;
static enum { ENDED, SUSPENDED, VALID } state;

static char *bytes; /* MOST_BYTES, made by the first grant */
static ssize_t read_bytes = -1; /* of the READ that is being answered here; -1: none */
static unsigned long long answered;

static void end_grants(void) {
    state = ENDED;
    granted = next_place = 0;
}

static const struct grant *find_grant(uint64_t handle, uint64_t offset) {
    for (unsigned i = 0; i < granted; i++) {
        const struct grant *grant = &grants[i];
        if (grant->handle == handle && offset >= grant->low && (offset < grant->high || grant->is_end))
            return grant;
    }
    return NULL;
}

static const struct fuse_read_in *as_read(const struct fuse_buf *request, size_t size) {
    const struct fuse_in_header *header = request->mem;
    if ((request->flags & FUSE_BUF_IS_FD) != 0 || size < sizeof(*header) + sizeof(struct fuse_read_in)
        || header->opcode != FUSE_READ)
        return NULL;
    return (const struct fuse_read_in *)(header + 1);
}

/* Reads what the READ wants into `bytes` if a grant has all of it, in memory. */
static bool read_granted(const struct fuse_read_in *wanted) {
    const struct grant *grant = find_grant(wanted->fh, wanted->offset);
    if (grant == NULL || wanted->size > MOST_BYTES)
        return false;
    uint64_t stop = wanted->offset + wanted->size;
    if (stop > grant->high) {
        if (!grant->is_end)
            return false;
        stop = grant->high > wanted->offset ? grant->high : wanted->offset;
    }
    struct iovec into = {.iov_base = bytes, .iov_len = stop - wanted->offset};
    off_t from = (off_t)(grant->start + (wanted->offset - grant->low));
    ssize_t count = into.iov_len == 0 ? 0 : preadv2(grant->fd, &into, 1, from, RWF_NOWAIT);
    if (count < 0 || (size_t)count != into.iov_len)
        return false; /* it would wait for the disk, or the file is damaged: Python knows what to do */
    read_bytes = count;
    return true;
}

bool reply_granted(fuse_req_t req) {
    if (read_bytes < 0)
        return false;
    size_t size = (size_t)read_bytes;
    read_bytes = -1;
    answered++;
    clear_current_request();
    fuse_reply_buf(req, bytes, size);
    return true;
}

/* Python gets this request. */
static void hand_out(const struct fuse_buf *request, size_t size) {
    if (state == VALID && as_read(request, size) != NULL)
        state = SUSPENDED;
    else
        end_grants();
}

typedef int (*receive)(struct fuse_session *, struct fuse_buf *);

/* Answers granted reads until another request comes (its size), or until the loop must go on (-EINTR). */
static int receive_beyond_reads(receive function, struct fuse_session *session, struct fuse_buf *request) {
    long long until_ns = monotonic_ns() + LONGEST_NS;
    do {
        int size = function(session, request);
        if (size <= 0)
            return size;
        const struct fuse_read_in *wanted = as_read(request, (size_t)size);
        if (wanted == NULL || !read_granted(wanted))
            return size;
        fuse_session_process_buf(session, request); /* wrap_read replies */
        read_bytes = -1;                            /* whatever libfuse made of it */
    } while (monotonic_ns() < until_ns && await_request(NEXT_REQUEST_NS) > 0);
    return -EINTR;
}

/* pyfuse3 calls this one in place of libfuse's, and receives again after -EINTR. */
EXPORTED int exported_receive(struct fuse_session *session, struct fuse_buf *request)
    __asm__("fuse_session_receive_buf");
int exported_receive(struct fuse_session *session, struct fuse_buf *request) {
    static receive function;
    if (function == NULL && (function = (receive)dlsym(RTLD_NEXT, "fuse_session_receive_buf")) == NULL)
        return -ENOSYS;
    int size;
    if (state == VALID) {
        PyGILState_STATE gil = PyGILState_Ensure();
        Py_BEGIN_ALLOW_THREADS
        size = receive_beyond_reads(function, session, request);
        Py_END_ALLOW_THREADS
        PyGILState_Release(gil);
    } else {
        size = function(session, request);
    }
    if (size > 0)
        hand_out(request, (size_t)size);
    return size;
}

PyObject *grant_read(PyObject *module, PyObject *args) {
    (void)module;
    unsigned long long handle, low, high, start;
    int fd, is_end;
    if (!PyArg_ParseTuple(args, "KiKKKp", &handle, &fd, &low, &high, &start, &is_end))
        return NULL;
    if (!loop_polls())
        Py_RETURN_NONE; /* nobody would end the grant */
    if (bytes == NULL && (bytes = malloc(MOST_BYTES)) == NULL)
        return PyErr_NoMemory();
    unsigned place = 0;
    while (place < granted && (grants[place].handle != handle || grants[place].low != low))
        place++;
    if (place == granted) {
        place = granted < GRANTS ? granted++ : next_place;
        next_place = (place + 1) % GRANTS; /* the oldest one when all are taken */
    }
    grants[place] = (struct grant){handle, fd, low, high, start, is_end != 0};
    state = VALID;
    Py_RETURN_NONE;
}

PyObject *end_read_grants(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    end_grants();
    Py_RETURN_NONE;
}

PyObject *granted_reads(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromUnsignedLongLong(answered);
}
