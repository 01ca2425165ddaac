/* One wrapper for each operation: it records the request, sets flags that pyfuse3 cannot set, and calls pyfuse3. */
#include "bridge.h"

#include <fcntl.h>
#include <string.h>

#define MAX_BACKGROUND 1024 /* with libfuse's 12, slow reads delay every RELEASE by seconds */

struct fuse_lowlevel_ops pyfuse3_ops;
bool must_allow_parallel;

static PyObject *opendir_policy; /* owned; called with the inode; NULL: listings are not kept */

#define WRAP(name, parameters, arguments)  \
    static void wrap_##name parameters {   \
        time_request(req, REQUEST_##name); \
        begin_request(req);                \
        pyfuse3_ops.name arguments;        \
    }

WRAP(lookup, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
WRAP(getattr, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))
WRAP(readlink, (fuse_req_t req, fuse_ino_t ino), (req, ino))
WRAP(mknod, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev),
     (req, parent, name, mode, rdev))
WRAP(mkdir, (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode), (req, parent, name, mode))
WRAP(unlink, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
WRAP(rmdir, (fuse_req_t req, fuse_ino_t parent, const char *name), (req, parent, name))
WRAP(symlink, (fuse_req_t req, const char *link, fuse_ino_t parent, const char *name),
     (req, link, parent, name))
WRAP(rename,
     (fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
      unsigned int flags),
     (req, parent, name, newparent, newname, flags))
WRAP(link, (fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname),
     (req, ino, newparent, newname))
WRAP(write,
     (fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi),
     (req, ino, buf, size, off, fi))
WRAP(flush, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))
WRAP(fsync, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi),
     (req, ino, datasync, fi))
WRAP(readdir, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),
     (req, ino, size, off, fi))
WRAP(readdirplus, (fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi),
     (req, ino, size, off, fi))
WRAP(releasedir, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi), (req, ino, fi))
WRAP(fsyncdir, (fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi),
     (req, ino, datasync, fi))
WRAP(statfs, (fuse_req_t req, fuse_ino_t ino), (req, ino))
WRAP(listxattr, (fuse_req_t req, fuse_ino_t ino, size_t size), (req, ino, size))
WRAP(removexattr, (fuse_req_t req, fuse_ino_t ino, const char *name), (req, ino, name))
WRAP(access, (fuse_req_t req, fuse_ino_t ino, int mask), (req, ino, mask))
WRAP(create,
     (fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi),
     (req, parent, name, mode, fi))
WRAP(poll, (fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph),
     (req, ino, fi, ph))

static void wrap_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi) {
    time_request(req, REQUEST_read);
    if (reply_granted(req))
        return;
    begin_request(req);
    pyfuse3_ops.read(req, ino, size, off, fi);
}

/* With "now" the kernel sends the time of its last tick, up to 10 ms before the clock that sets the time of a written
 * file. Without that time pyfuse3 uses CLOCK_REALTIME, as all other code does. */
static void wrap_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                         struct fuse_file_info *fi) {
    time_request(req, REQUEST_setattr);
    begin_request(req);
    if (to_set & FUSE_SET_ATTR_ATIME_NOW)
        to_set &= ~FUSE_SET_ATTR_ATIME;
    if (to_set & FUSE_SET_ATTR_MTIME_NOW)
        to_set &= ~FUSE_SET_ATTR_MTIME;
    pyfuse3_ops.setattr(req, ino, attr, to_set, fi);
}

/* Forgets have no reply and so no interrupt: their handler must find an empty slot. */
static void wrap_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup) {
    clear_current_request();
    pyfuse3_ops.forget(req, ino, nlookup);
}

static void wrap_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
    clear_current_request();
    pyfuse3_ops.forget_multi(req, count, forgets);
}

static void wrap_init(void *userdata, struct fuse_conn_info *conn) {
    pyfuse3_ops.init(userdata, conn);
    must_allow_parallel = (conn->capable & FUSE_CAP_PARALLEL_DIROPS) != 0;
    if (must_allow_parallel)
        conn->want |= FUSE_CAP_PARALLEL_DIROPS;
    /* With splice a small request costs three system calls, with read(2) one, and pyfuse3 needs the bytes in memory
     * anyway. */
    conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
    /* The kernel would send the dirty pages of a mapped file at any time. */
    conn->want &= ~(unsigned)FUSE_CAP_WRITEBACK_CACHE;
    if (conn->max_background < MAX_BACKGROUND)
        conn->max_background = MAX_BACKGROUND;
    conn->congestion_threshold = conn->max_background / 4 * 3;
}

/* Both flags must be set in fi before pyfuse3's handlers copy it; the handlers do not change them. */
static void wrap_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    time_request(req, REQUEST_open);
    begin_request(req);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 11)
    if ((fi->flags & O_ACCMODE) == O_RDONLY)
        fi->noflush = 1; /* a read-only handle has nothing to flush: saves a round trip for each close */
#endif
    pyfuse3_ops.open(req, ino, fi);
}

static bool may_keep_listing(fuse_ino_t ino) {
    bool keep = false;
    PyGILState_STATE gil = PyGILState_Ensure();
    if (opendir_policy != NULL) {
        PyObject *policy = Py_NewRef(opendir_policy);
        PyObject *answer = PyObject_CallFunction(policy, "K", (unsigned long long)ino);
        int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
        if (truth < 0)
            PyErr_WriteUnraisable(policy); /* the kernel then asks for a new listing, which is always correct */
        keep = truth == 1;
        Py_XDECREF(answer);
        Py_DECREF(policy);
    }
    PyGILState_Release(gil);
    return keep;
}

static void wrap_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    time_request(req, REQUEST_opendir);
    begin_request(req);
    fi->cache_readdir = 1;
    fi->keep_cache = may_keep_listing(ino);
    pyfuse3_ops.opendir(req, ino, fi);
}

static bool has_prefix(const char *name, const char *prefix) {
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* The kernel asks for security.capability at each write: these are answered without a coroutine, and not counted. */
static void wrap_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
    if (has_prefix(name, "security.") || has_prefix(name, "system.") || has_prefix(name, "trusted.")) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    time_request(req, REQUEST_getxattr);
    begin_request(req);
    pyfuse3_ops.getxattr(req, ino, name, size);
}

/* pyfuse3 does not pass on the flags: it calls getxattr first, which may have to call Procore while the kernel holds
 * the lock of the file or folder. So our handler gets the flags, and pyfuse3 gets none. */
static int setxattr_flags; /* of the request that began last */

static void wrap_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                          int flags) {
    time_request(req, REQUEST_setxattr);
    begin_request(req);
    setxattr_flags = flags;
    pyfuse3_ops.setxattr(req, ino, name, value, size, 0);
}

void put_wrappers(struct fuse_lowlevel_ops *ops) {
#define PUT(name)                      \
    do {                               \
        if (ops->name != NULL)         \
            ops->name = wrap_##name;   \
    } while (0)
    PUT(init); PUT(lookup); PUT(forget); PUT(forget_multi); PUT(getattr); PUT(setattr); PUT(readlink);
    PUT(mknod); PUT(mkdir); PUT(unlink); PUT(rmdir); PUT(symlink); PUT(rename); PUT(link); PUT(open);
    PUT(read); PUT(write); PUT(write_buf); PUT(flush); PUT(release); PUT(fsync); PUT(opendir);
    PUT(readdir); PUT(readdirplus); PUT(releasedir); PUT(fsyncdir); PUT(statfs); PUT(setxattr);
    PUT(getxattr); PUT(listxattr); PUT(removexattr); PUT(access); PUT(create); PUT(poll);
#undef PUT
    if (handles_flock())
        ops->flock = wrap_flock; /* libfuse then asks the kernel for FUSE_FLOCK_LOCKS by itself */
}

PyObject *set_opendir_policy(PyObject *module, PyObject *policy) {
    (void)module;
    set_callable(&opendir_policy, policy);
    Py_RETURN_NONE;
}

PyObject *last_setxattr_flags(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    return PyLong_FromLong(setxattr_flags);
}
