/* The module `_bridge`: its functions and types, as Python sees them. */
#include "bridge.h"

static PyMethodDef module_methods[] = {
    {"take_request", take_request, METH_NOARGS,
     "The request whose handler begins, or None if it was taken already; clears the slot."},
    {"set_opendir_policy", set_opendir_policy, METH_O,
     "Set the callable inode -> bool that says whether the kernel may keep its listing; None: never."},
    {"set_writer", set_writer, METH_O,
     "Set the callable (handle, offset, view) -> bool that may write immediately; None: all writes go to the handler."},
    {"request_comes", request_comes, METH_O,
     "Whether the kernel has a request, now or within this number of nanoseconds."},
    {"grant_read", grant_read, METH_VARARGS,
     "Answer reads of (handle) from (descriptor), which has all (size) bytes, until Python runs again; to be called by"
     " the handler of a read that replies without waiting."},
    {"end_read_grants", end_read_grants, METH_NOARGS, "End all grants, before other tasks run."},
    {"granted_reads", granted_reads, METH_NOARGS, "How many reads were answered without Python."},
    {"set_flock_handler", set_flock_handler, METH_O,
     "Before a session is made: set the callable for each Flock; None: the kernel handles flock itself."},
    {"set_release_hook", set_release_hook, METH_O,
     "Set the callable (inode, handle, lock owner) for the last close of each file that flock was tried on."},
    {"session_count", session_count, METH_NOARGS, "How many FUSE sessions were made through the bridge."},
    {"setxattr_flags", last_setxattr_flags, METH_NOARGS,
     "XATTR_CREATE and XATTR_REPLACE of a setxattr, at the first line of its handler."},
    {"request_times", request_times, METH_NOARGS,
     "By kind of request, how many took how long: (a number for each bucket, seconds in all)."},
    {"interrupt_count", interrupt_count, METH_NOARGS, "How many interrupts the kernel has sent."},
    {"invalidate_listing", invalidate_listing, METH_O,
     "Drop the kernel's cached listing and attributes of a directory; returns an errno or 0."},
    {"abort_connection", abort_now, METH_VARARGS,
     "Abort a FUSE connection if it is still the one described; returns an errno or 0."},
    {"start_guard", start_guard, METH_VARARGS,
     "Fork the guard of a connection; returns its process id and the descriptor of its heartbeat pipe."},
    {"overridden", overridden, METH_NOARGS,
     "Symbols that pyfuse3 would not find in the bridge, with the file in which it would find them (or None)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "procorefs.kernel.bridge._bridge",
    .m_doc = "Sits between pyfuse3 and libfuse.",
    .m_size = -1,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__bridge(void) {
    if (PyType_Ready(&RequestType) < 0 || PyType_Ready(&FlockType) < 0 || PyType_Ready(&NotificationBatchType) < 0)
        return NULL;
    PyObject *module = PyModule_Create(&module_definition);
    if (module == NULL)
        return NULL;
    if (PyModule_AddObjectRef(module, "Request", (PyObject *)&RequestType) < 0 ||
        PyModule_AddObjectRef(module, "Flock", (PyObject *)&FlockType) < 0 ||
        PyModule_AddObjectRef(module, "NotificationBatch", (PyObject *)&NotificationBatchType) < 0)
        Py_CLEAR(module);
    if (module != NULL && PyModule_AddIntMacro(module, INTERFACE) < 0)
        Py_CLEAR(module);
    PyObject *bounds = module == NULL ? NULL : latency_bounds();
    if (module != NULL && (bounds == NULL || PyModule_AddObjectRef(module, "LATENCY_BOUNDS_S", bounds) < 0))
        Py_CLEAR(module);
    Py_XDECREF(bounds);
    return module;
}
