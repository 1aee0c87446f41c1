/* The common part of the kernels: vectors, and checked access to NumPy arrays. See builds.h for the parts of a kernel. */
#ifndef ASRKIT_COMMON_H
#define ASRKIT_COMMON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Vectors of 32 bytes. The `u` types need no alignment: pointers to them load and store. */
typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef float f32x8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef double f64x4 __attribute__((vector_size(32)));
typedef int64_t i64x4 __attribute__((vector_size(32)));
typedef double f64x4u __attribute__((vector_size(32), aligned(8), may_alias));

#define NEVER (-1e30) /* the log of 0 in sums over paths: finite, so that differences are finite, too */

/* Fill `view` with the C-contiguous array `object` of `ndim` dimensions, whose elements are of one of the struct
 * codes `kinds` ("f" float32, "d" float64, "q" int64, "i" int32, "B" uint8). Release it after success (0) only. */
static int get_array(PyObject *object, Py_buffer *view, const char *kinds, int ndim, bool writable, const char *name) {
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags) < 0) return -1;
    const char *format = view->format != NULL ? view->format : "B";
    char kind = format[0] != '\0' && format[1] == '\0' ? format[0] : '?';
    if (kind == 'l' && view->itemsize == 8) kind = 'q'; /* NumPy's int64 if C's long has 64 bits */
    if (kind == 'l' && view->itemsize == 4) kind = 'i';
    if (view->ndim == ndim && strchr(kinds, kind) != NULL) return 0;
    PyErr_Format(PyExc_TypeError, "%s: an array of %d dimensions and format %s; expected %d and one of %s", name,
                 view->ndim, format, ndim, kinds);
    PyBuffer_Release(view);
    return -1;
}

/* An array argument: first the requirements, as for get_array, then the array itself. */
typedef struct {
    const char *name, *kinds;
    int ndim;
    bool is_written, may_be_none;
    Py_buffer view; /* its `buf` is NULL for None */
} Array;

static inline bool is_given(const Array *array) { return array->view.obj != NULL; }

/* Call this for every array after PyArg_ParseTuple has succeeded. */
static inline void release_array(Array *array) { PyBuffer_Release(&array->view); /* nothing for None */ }

/* A converter for PyArg_ParseTuple's O&, to an Array whose first members are set. If a later argument is wrong,
 * PyArg_ParseTuple calls it again, with NULL, to release the array. */
static inline int take_array(PyObject *object, void *address) {
    Array *array = address;
    if (object == NULL) {
        release_array(array);
        return 1;
    }
    if (object == Py_None && array->may_be_none) return 1;
    if (get_array(object, &array->view, array->kinds, array->ndim, array->is_written, array->name) < 0) return 0;
    return Py_CLEANUP_SUPPORTED;
}

#endif
