/* Granted reads: a READ of a file whose bytes are in a staged file is answered here, without Python.
 *
 *     read handler -> grant_read(handle, staged file, size) -> next READ of the handle -> preadv2 -> reply, here
 *     any other request, and before any other task runs -> the grants end
 *
 * A grant says that the staged file has all bytes of the handle's file, and how many, until Python runs again. The
 * handler of a READ makes it where it replies without waiting; from there to the next request no other task runs
 * (request_polling.py). So nobody can write, truncate, remove or close the file while a grant is valid, and nobody has
 * to withdraw it then.
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
#define GRANTS 16
#define MOST_BYTES (1u << 20) /* of one READ (READ_AHEAD_KIB, max_pages) */

static struct grant {
    uint64_t handle;
    int fd;
    uint64_t size_bytes; /* a READ beyond it is short */
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

/* The place of the handle's grant; `granted`: it has none. */
static unsigned place_of(uint64_t handle) {
    unsigned place = 0;
    while (place < granted && grants[place].handle != handle)
        place++;
    return place;
}

static const struct fuse_read_in *as_read(const struct fuse_buf *request, size_t size) {
    const struct fuse_in_header *header = request->mem;
    if ((request->flags & FUSE_BUF_IS_FD) != 0 || size < sizeof(*header) + sizeof(struct fuse_read_in)
        || header->opcode != FUSE_READ)
        return NULL;
    return (const struct fuse_read_in *)(header + 1);
}

/* Reads what the READ wants into `bytes` if its handle has a grant and the bytes are in memory. */
static bool read_granted(const struct fuse_read_in *wanted) {
    unsigned place = place_of(wanted->fh);
    if (place == granted || wanted->size > MOST_BYTES)
        return false;
    const struct grant *grant = &grants[place];
    uint64_t left = grant->size_bytes > wanted->offset ? grant->size_bytes - wanted->offset : 0;
    struct iovec into = {.iov_base = bytes, .iov_len = left < wanted->size ? left : wanted->size};
    ssize_t count = into.iov_len == 0 ? 0 : preadv2(grant->fd, &into, 1, (off_t)wanted->offset, RWF_NOWAIT);
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
    unsigned long long handle, size_bytes;
    int fd;
    if (!PyArg_ParseTuple(args, "KiK", &handle, &fd, &size_bytes))
        return NULL;
    if (!loop_polls())
        Py_RETURN_NONE; /* nobody would end the grant */
    if (bytes == NULL && (bytes = malloc(MOST_BYTES)) == NULL)
        return PyErr_NoMemory();
    unsigned place = place_of(handle);
    if (place == granted) {
        place = granted < GRANTS ? granted++ : next_place;
        next_place = (place + 1) % GRANTS; /* the oldest one when all are taken */
    }
    grants[place] = (struct grant){handle, fd, size_bytes};
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
