/* CTC prefix beam search with an n-gram model, frame by frame: the kernel of asrkit.decoding.prefix_beam, whose NumPy
 * reference defines the result. T frames, V classes, C contexts of the language model.
 *
 * This file has the type that Python sees; the search is in _beam_search.h.
 */
#include "_beam_search.h"

/* The arrays of a language model, in the order of the arguments; `end` is the last of both. */
static const Array IN_TABLE[] = {
    {.name = "factors", .kinds = "d", .ndim = 2},
    {.name = "log_probs", .kinds = "d", .ndim = 2},
    {.name = "next_context", .kinds = "i", .ndim = 2},
    {.name = "end", .kinds = "d", .ndim = 1},
};
static const Array IN_AUTOMATON[] = {
    {.name = "first_arc", .kinds = "q", .ndim = 1}, {.name = "tokens", .kinds = "i", .ndim = 1},
    {.name = "log_probs", .kinds = "d", .ndim = 1}, {.name = "next_context", .kinds = "i", .ndim = 1},
    {.name = "shorter", .kinds = "i", .ndim = 1},   {.name = "backoff", .kinds = "d", .ndim = 1},
    {.name = "end", .kinds = "d", .ndim = 1},
};
enum { TABLE_SIZE = sizeof IN_TABLE / sizeof *IN_TABLE, AUTOMATON_SIZE = sizeof IN_AUTOMATON / sizeof *IN_AUTOMATON };
enum { NUM_BEFORE_LM = 8 }; /* arguments */

typedef struct {
    PyObject_HEAD
    Search search;
    Array highest, lm[AUTOMATON_SIZE]; /* held as long as the search, which reads them */
    bool is_busy;                      /* while a thread works on it without the lock */
    bool is_broken;                    /* memory ran out in the midst of a frame */
} SearchObject;

static void dealloc(PyObject *object) {
    SearchObject *self = (SearchObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    release(&self->search);
    release_array(&self->highest);
    for (int i = 0; i < AUTOMATON_SIZE; i++) release_array(&self->lm[i]);
    type->tp_free(object);
    Py_DECREF(type);
}

static bool is_long(const Array *array, Py_ssize_t length) { return array->view.shape[0] == length; }

/* Whether all indices of the search lie within these arrays, as far as the arrays' shapes say. */
static bool is_table(const Array *arrays, Py_ssize_t num_contexts, Py_ssize_t num_classes) {
    for (int i = 0; i < TABLE_SIZE - 1; i++)
        if (!is_long(&arrays[i], num_contexts) || arrays[i].view.shape[1] != num_classes) return false;
    return true;
}

static bool is_automaton(const Array *arrays, Py_ssize_t num_contexts) {
    const Array *first_arc = &arrays[0], *tokens = &arrays[1], *log_probs = &arrays[2], *next_context = &arrays[3];
    const Array *shorter = &arrays[4], *backoff = &arrays[5];
    const Py_ssize_t num_arcs = tokens->view.shape[0];
    return is_long(first_arc, num_contexts + 1) && is_long(log_probs, num_arcs) && is_long(next_context, num_arcs) &&
           is_long(shorter, num_contexts) && is_long(backoff, num_contexts);
}

/* Whether the arguments, `num_lm` of them arrays of the language model, fit together. */
static bool is_sound(const SearchObject *self, Py_ssize_t num_lm, Py_ssize_t num_contexts, int start) {
    const Search *search = &self->search;
    const Py_ssize_t num_classes = search->num_classes;
    if (num_classes < 1 || num_classes > INT32_MAX || search->beam < 1 || search->beam > INT32_MAX) return false;
    if (start < 0 || start >= num_contexts || !is_long(&self->highest, num_lm == 0 ? 0 : num_classes)) return false;
    if (num_lm == TABLE_SIZE) return is_table(self->lm, num_contexts, num_classes);
    if (num_lm == AUTOMATON_SIZE) return is_automaton(self->lm, num_contexts);
    return num_lm == 0;
}

static void set_lm(Lm *lm, const Array *arrays, Py_ssize_t num_lm) {
    if (num_lm == 0) return;
    lm->end = arrays[num_lm - 1].view.buf;
    if (num_lm == TABLE_SIZE) {
        lm->table_factors = arrays[0].view.buf;
        lm->table_log_probs = arrays[1].view.buf;
        lm->table_next = arrays[2].view.buf;
    } else {
        lm->first_arc = arrays[0].view.buf;
        lm->tokens = arrays[1].view.buf;
        lm->log_probs = arrays[2].view.buf;
        lm->next = arrays[3].view.buf;
        lm->shorter = arrays[4].view.buf;
        lm->backoff = arrays[5].view.buf;
    }
}

PyDoc_STRVAR(type_doc,
             "Search(num_classes, beam, threshold, lm_weight, bonus, start, lowest, highest, *lm)\n\n"
             "threshold may be inf. lm: nothing; or factors, log_probs (C, V) float64, next_context (C, V) int32, end\n"
             "(C,) float64 of an LmTable; or first_arc, tokens, log_probs, next_context, shorter, backoff, end of an\n"
             "LmAutomaton. lowest, highest: its bounds; without lm 0, (0,).");

static bool init(SearchObject *self, PyObject *args) {
    Search *search = &self->search;
    Array *highest = &self->highest, *lm = self->lm;
    const Py_ssize_t num_lm = PyTuple_GET_SIZE(args) - NUM_BEFORE_LM;
    int start;
    double lowest;
    *highest = (Array){.name = "highest", .kinds = "d", .ndim = 1};
    if (num_lm == TABLE_SIZE)
        memcpy(lm, IN_TABLE, sizeof IN_TABLE);
    else
        memcpy(lm, IN_AUTOMATON, sizeof IN_AUTOMATON);
    if (!PyArg_ParseTuple(args, "nndddidO&|O&O&O&O&O&O&O&:Search", &search->num_classes, &search->beam,
                          &search->threshold, &search->lm.weight, &search->lm.bonus, &start, &lowest, take_array,
                          highest, take_array, &lm[0], take_array, &lm[1], take_array, &lm[2], take_array, &lm[3],
                          take_array, &lm[4], take_array, &lm[5], take_array, &lm[6]))
        return false;
    const Py_ssize_t num_contexts = num_lm > 0 ? lm[num_lm - 1].view.shape[0] : 1;
    if (!is_sound(self, num_lm, num_contexts, start)) {
        PyErr_SetString(PyExc_ValueError, "Search: arguments that do not fit together");
        return false;
    }
    set_lm(&search->lm, lm, num_lm);
    if (prepare(search, num_contexts, start, lowest, num_lm > 0 ? highest->view.buf : NULL)) return true;
    PyErr_NoMemory();
    return false;
}

static PyObject *new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Search: takes no keyword arguments");
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0); /* all zero */
    if (self != NULL && !init((SearchObject *)self, args)) Py_CLEAR(self);
    return self;
}

/* False, with an exception, when the search cannot be used now. */
static bool is_ready(const SearchObject *self) {
    if (self->is_busy || self->is_broken)
        PyErr_SetString(PyExc_RuntimeError, self->is_busy ? "Search: two threads at once" : "Search: out of memory");
    return !self->is_busy && !self->is_broken;
}

PyDoc_STRVAR(advance_doc,
             "advance(log_probs)\n    -> -1, or the first frame without use\n\n"
             "The next frames (t, V), float32 or float64. What comes before a frame without use counts.");

static PyObject *method_advance(PyObject *object, PyObject *log_probs) {
    SearchObject *self = (SearchObject *)object;
    Search *search = &self->search;
    Py_buffer view;
    if (!is_ready(self) || get_array(log_probs, &view, "fd", 2, false, "log_probs") < 0) return NULL;
    if (view.shape[1] != search->num_classes) {
        PyErr_Format(PyExc_ValueError, "log_probs: %zd classes; expected %zd", view.shape[1], search->num_classes);
        PyBuffer_Release(&view);
        return NULL;
    }
    Py_ssize_t bad_frame = -1;
    bool is_done = true;
    self->is_busy = true;
    Py_BEGIN_ALLOW_THREADS;
    for (Py_ssize_t t = 0; is_done && bad_frame < 0 && t < view.shape[0]; t++) {
        double most = load_frame(search, view.buf, view.itemsize == sizeof(double), t);
        if (isnan(most))
            bad_frame = t;
        else
            is_done = reserve_found(search) && search_frame(search, most);
    }
    Py_END_ALLOW_THREADS;
    self->is_busy = false;
    self->is_broken = !is_done;
    PyBuffer_Release(&view);
    return is_done ? PyLong_FromSsize_t(bad_frame) : PyErr_NoMemory();
}

/* The tokens from node 0 to `last`, and their log probability in `lm_log_prob` added to what it holds. */
static PyObject *spell(const Search *search, int32_t last, double *lm_log_prob) {
    Py_ssize_t num_tokens = 0;
    for (int32_t node = last; node != 0; node = search->nodes[node].parent) num_tokens++;
    PyObject *tokens = PyTuple_New(num_tokens);
    if (tokens == NULL) return NULL;
    Py_ssize_t position = num_tokens;
    for (int32_t node = last; node != 0; node = search->nodes[node].parent) {
        PyObject *token = PyLong_FromLong(search->nodes[node].token);
        if (token == NULL) {
            Py_DECREF(tokens);
            return NULL;
        }
        PyTuple_SET_ITEM(tokens, --position, token);
    }
    int32_t context = search->nodes[0].context;
    for (Py_ssize_t u = 0; u < num_tokens; u++) {
        double log_prob;
        context = advance(search, context, (int32_t)PyLong_AsLong(PyTuple_GET_ITEM(tokens, u)), &log_prob);
        *lm_log_prob += log_prob;
    }
    return tokens;
}

/* A candidate that `rank` left as (tokens, score, ctc_log_prob, lm_log_prob). */
static PyObject *make_result(const Search *search, Candidate candidate, bool is_end) {
    const Lm *lm = &search->lm;
    const int32_t node = search->now[candidate.rank].node;
    double lm_log_prob = search->committed_lm_log_prob;
    PyObject *tokens = spell(search, node, &lm_log_prob);
    if (tokens == NULL) return NULL;
    double num_tokens = (double)(search->num_committed + PyTuple_GET_SIZE(tokens));
    double ctc_log_prob = search->log_totals[candidate.rank] - lm->weight * lm_log_prob - lm->bonus * num_tokens;
    if (lm->end != NULL && is_end) lm_log_prob += lm->end[search->nodes[node].context];
    return Py_BuildValue("Nddd", tokens, from_key(candidate.key), ctc_log_prob, lm_log_prob);
}

PyDoc_STRVAR(best_doc,
             "best(num_best, is_end)\n    -> list of (tokens, score, ctc_log_prob, lm_log_prob), best first\n\n"
             "Tokens are those after what was committed; scores are of all. With is_end, </s> counts.");

static PyObject *method_best(PyObject *object, PyObject *args) {
    SearchObject *self = (SearchObject *)object;
    Search *search = &self->search;
    Py_ssize_t num_best;
    int is_end;
    if (!PyArg_ParseTuple(args, "np:best", &num_best, &is_end) || !is_ready(self)) return NULL;
    if (num_best < 1) {
        PyErr_Format(PyExc_ValueError, "num_best %zd; expected at least 1", num_best);
        return NULL;
    }
    if (!rank(search, num_best, is_end)) {
        self->is_broken = true;
        return PyErr_NoMemory();
    }
    PyObject *result = PyList_New(search->num_found);
    for (Py_ssize_t i = 0; result != NULL && i < search->num_found; i++) {
        PyObject *item = make_result(search, search->found[i], is_end);
        if (item == NULL)
            Py_CLEAR(result);
        else
            PyList_SET_ITEM(result, i, item);
    }
    return result;
}

PyDoc_STRVAR(commit_doc, "commit()\n    -> the tokens, after those committed, that all prefixes of the beam begin with");

static PyObject *method_commit(PyObject *object, PyObject *Py_UNUSED(none)) {
    SearchObject *self = (SearchObject *)object;
    Search *search = &self->search;
    if (!is_ready(self)) return NULL;
    const int32_t common = find_common(search);
    PyObject *tokens = spell(search, common, &search->committed_lm_log_prob);
    if (tokens == NULL) return NULL;
    search->num_committed += PyTuple_GET_SIZE(tokens);
    if (common != 0) collect(search, common);
    return tokens;
}

PyDoc_STRVAR(settle_doc, "settle(num_tokens)\n\nKeep what begins with the best prefix's first tokens after those committed.");

static PyObject *method_settle(PyObject *object, PyObject *argument) {
    SearchObject *self = (SearchObject *)object;
    Py_ssize_t num_tokens = PyLong_AsSsize_t(argument);
    if ((num_tokens == -1 && PyErr_Occurred()) || !is_ready(self)) return NULL;
    settle(&self->search, num_tokens > 0 ? num_tokens : 0);
    Py_RETURN_NONE;
}

static PyObject *get_num_classes(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromSsize_t(((SearchObject *)object)->search.num_classes);
}

static PyObject *get_num_nodes(PyObject *object, void *Py_UNUSED(closure)) {
    return PyLong_FromSsize_t(((SearchObject *)object)->search.num_nodes);
}

static PyMethodDef search_methods[] = {
    {"advance", method_advance, METH_O, advance_doc},
    {"best", method_best, METH_VARARGS, best_doc},
    {"settle", method_settle, METH_O, settle_doc},
    {"commit", method_commit, METH_NOARGS, commit_doc},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef search_getters[] = {
    {"num_classes", get_num_classes, NULL, "V", NULL},
    {"num_nodes", get_num_nodes, NULL, "prefixes that are kept", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot search_slots[] = {
    {Py_tp_doc, (void *)type_doc},     {Py_tp_new, (void *)new},            {Py_tp_dealloc, (void *)dealloc},
    {Py_tp_methods, search_methods}, {Py_tp_getset, search_getters}, {0, NULL},
};
static PyType_Spec search_spec = {
    .name = "asrkit._native._beam.Search", .basicsize = sizeof(SearchObject), .flags = Py_TPFLAGS_DEFAULT,
    .slots = search_slots};

static int add_type(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &search_spec, NULL);
    int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return status;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)add_type}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._beam", .m_slots = slots};

PyMODINIT_FUNC PyInit__beam(void) { return PyModuleDef_Init(&definition); }
