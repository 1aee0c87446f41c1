/* CTC prefix beam search with an n-gram model, frame by frame: the kernel of asrkit.decoding.prefix_beam.
 * asrkit.decoding.reference_beam defines the result. T frames, V classes, C contexts of the language model.
 *
 * This file has the types that Python sees; the search is in _beam_search.h.
 */
#include "_beam_search.h"

#include <float.h>

/* The arrays of a language model, in the order of the arguments. `end` is the last one in both forms. */
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
enum { NUM_BEFORE_ARRAYS = 4 }; /* arguments */

/* ---- LanguageModel: its arrays are checked once, for any number of searches ---- */

typedef struct {
    PyObject_HEAD
    Array highest, arrays[AUTOMATON_SIZE]; /* held as long as the object */
    Py_ssize_t num_classes, num_contexts;
    int start;
    double lowest;
    Lm lm; /* without weights */
} LmObject;

static void lm_dealloc(PyObject *object) {
    LmObject *self = (LmObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    release_array(&self->highest);
    for (int i = 0; i < AUTOMATON_SIZE; i++) release_array(&self->arrays[i]);
    type->tp_free(object);
    Py_DECREF(type);
}

/* The checks below set an exception if they fail. */
static bool complain(const char *format, const char *name, Py_ssize_t least, Py_ssize_t most) {
    PyErr_Format(PyExc_ValueError, format, name, least, most);
    return false;
}

static bool is_long(const Array *array, Py_ssize_t length) {
    if (array->view.shape[0] == length) return true;
    return complain("language model: %s has %zd entries; expected %zd", array->name, array->view.shape[0], length);
}

static Py_ssize_t num_entries(const Array *array) { return array->view.len / array->view.itemsize; }

/* Whether all entries of an int32 array are from `least` to `most`. */
static bool are_within(const Array *array, Py_ssize_t least, Py_ssize_t most) {
    const int32_t *entries = array->view.buf;
    const Py_ssize_t length = num_entries(array);
    bool is_sound = true;
    for (Py_ssize_t i = 0; i < length; i++) is_sound &= entries[i] >= least && entries[i] <= most;
    return is_sound || complain("language model: %s holds indices that are not from %zd to %zd", array->name, least, most);
}

/* Whether all entries of a float64 array are finite. With `may_overflow`, +inf is allowed, but nothing negative. */
static bool are_numbers(const Array *array, bool may_overflow) {
    const double *entries = array->view.buf;
    const Py_ssize_t length = num_entries(array);
    bool is_sound = true;
    if (may_overflow)
        for (Py_ssize_t i = 0; i < length; i++) is_sound &= entries[i] >= 0.0;
    else
        for (Py_ssize_t i = 0; i < length; i++) is_sound &= fabs(entries[i]) <= DBL_MAX;
    return is_sound || complain("language model: %s holds what is no number of a model", array->name, 0, 0);
}

/* Whether all indices that the search uses lie within these arrays. */
static bool is_table(const LmObject *self) {
    const Array *factors = &self->arrays[0], *log_probs = &self->arrays[1], *next_context = &self->arrays[2];
    for (const Array *array = factors; array <= next_context; array++) {
        if (!is_long(array, self->num_contexts)) return false;
        if (array->view.shape[1] != self->num_classes)
            return complain("language model: %s has %zd columns; expected %zd", array->name, array->view.shape[1],
                            self->num_classes);
    }
    return are_within(next_context, 0, self->num_contexts - 1) && are_numbers(factors, true) &&
           are_numbers(log_probs, false);
}

/* The same. Also checks that every way to shorter contexts ends in the empty one, which lists every token. */
static bool is_automaton(const LmObject *self) {
    const Array *arrays = self->arrays, *tokens = &arrays[1], *log_probs = &arrays[2], *next_context = &arrays[3];
    const Array *shorter = &arrays[4], *backoff = &arrays[5];
    const Py_ssize_t num_contexts = self->num_contexts, num_arcs = tokens->view.shape[0];
    if (!is_long(&arrays[0], num_contexts + 1) || !is_long(log_probs, num_arcs) || !is_long(next_context, num_arcs) ||
        !is_long(shorter, num_contexts) || !is_long(backoff, num_contexts) ||
        !are_within(next_context, 0, num_contexts - 1) || !are_within(tokens, 1, self->num_classes - 1) ||
        !are_numbers(log_probs, false) || !are_numbers(backoff, false))
        return false;
    const int64_t *first_arc = arrays[0].view.buf;
    const int32_t *token = tokens->view.buf, *shorter_context = shorter->view.buf;
    bool is_sound = first_arc[0] == 0 && first_arc[num_contexts] == num_arcs;
    for (Py_ssize_t c = 0; c < num_contexts; c++) is_sound &= first_arc[c] <= first_arc[c + 1];
    if (!is_sound) return complain("language model: first_arc does not rise from 0 to the end of %s", "tokens", 0, 0);
    is_sound = shorter_context[0] == 0;
    for (Py_ssize_t c = 1; c < num_contexts; c++) is_sound &= shorter_context[c] >= 0 && shorter_context[c] < c;
    if (!is_sound) return complain("language model: %s names a context that is not before its own", "shorter", 0, 0);
    is_sound = first_arc[1] == self->num_classes - 1;
    for (Py_ssize_t c = 0; c < num_contexts; c++)
        for (int64_t arc = first_arc[c] + 1; arc < first_arc[c + 1]; arc++) is_sound &= token[arc - 1] < token[arc];
    return is_sound || complain("language model: %s do not rise in each context, or miss some in the empty one",
                                "tokens", 0, 0);
}

/* Whether the arguments fit together. */
static bool is_sound_lm(const LmObject *self, Py_ssize_t num_arrays) {
    if (self->num_classes < 1 || self->num_classes > INT32_MAX)
        return complain("language model: %s %zd", "classes", self->num_classes, 0);
    if (self->num_contexts > INT32_MAX || self->start < 0 || self->start >= self->num_contexts)
        return complain("language model: %s %zd; expected one of %zd contexts", "start", self->start, self->num_contexts);
    return is_long(&self->highest, self->num_classes) &&
           (num_arrays == TABLE_SIZE ? is_table(self) : is_automaton(self)) &&
           are_numbers(&self->arrays[num_arrays - 1], false);
}

static void set_arrays(Lm *lm, const Array *arrays, bool is_dense) {
    if (is_dense) {
        lm->table_factors = arrays[0].view.buf;
        lm->table_log_probs = arrays[1].view.buf;
        lm->table_next = arrays[2].view.buf;
        lm->end = arrays[TABLE_SIZE - 1].view.buf;
    } else {
        lm->first_arc = arrays[0].view.buf;
        lm->tokens = arrays[1].view.buf;
        lm->log_probs = arrays[2].view.buf;
        lm->next = arrays[3].view.buf;
        lm->shorter = arrays[4].view.buf;
        lm->backoff = arrays[5].view.buf;
        lm->end = arrays[AUTOMATON_SIZE - 1].view.buf;
    }
}

PyDoc_STRVAR(lm_doc,
             "LanguageModel(num_classes, start, lowest, highest, *arrays)\n\n"
             "arrays: factors, log_probs (C, V) float64, next_context (C, V) int32, end (C,) float64 of an LmTable; or\n"
             "first_arc, tokens, log_probs, next_context, shorter, backoff, end of an LmAutomaton. They must not\n"
             "change later. lowest, highest (V,): bounds of the model. ValueError for arrays that are inconsistent.");

static bool lm_init(LmObject *self, PyObject *args) {
    Array *arrays = self->arrays;
    const Py_ssize_t num_arrays = PyTuple_GET_SIZE(args) - NUM_BEFORE_ARRAYS;
    if (num_arrays != TABLE_SIZE && num_arrays != AUTOMATON_SIZE) {
        PyErr_Format(PyExc_TypeError, "LanguageModel: %zd arrays; expected %d or %d", num_arrays, TABLE_SIZE,
                     AUTOMATON_SIZE);
        return false;
    }
    self->highest = (Array){.name = "highest", .kinds = "d", .ndim = 1};
    if (num_arrays == TABLE_SIZE)
        memcpy(arrays, IN_TABLE, sizeof IN_TABLE);
    else
        memcpy(arrays, IN_AUTOMATON, sizeof IN_AUTOMATON);
    if (!PyArg_ParseTuple(args, "nidO&O&O&O&O&|O&O&O&:LanguageModel", &self->num_classes, &self->start, &self->lowest,
                          take_array, &self->highest, take_array, &arrays[0], take_array, &arrays[1], take_array,
                          &arrays[2], take_array, &arrays[3], take_array, &arrays[4], take_array, &arrays[5], take_array,
                          &arrays[6]))
        return false;
    self->num_contexts = arrays[num_arrays - 1].view.shape[0];
    if (!is_sound_lm(self, num_arrays)) return false;
    set_arrays(&self->lm, arrays, num_arrays == TABLE_SIZE);
    return true;
}

static PyObject *lm_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "LanguageModel: takes no keyword arguments");
        return NULL;
    }
    PyObject *self = type->tp_alloc(type, 0); /* all zero */
    if (self != NULL && !lm_init((LmObject *)self, args)) Py_CLEAR(self);
    return self;
}

static PyType_Slot lm_slots[] = {
    {Py_tp_doc, (void *)lm_doc}, {Py_tp_new, (void *)lm_new}, {Py_tp_dealloc, (void *)lm_dealloc}, {0, NULL}};
static PyType_Spec lm_spec = {
    .name = "asrkit._native._beam.LanguageModel", .basicsize = sizeof(LmObject), .flags = Py_TPFLAGS_DEFAULT,
    .slots = lm_slots};

/* ---- Search ---- */

typedef struct {
    PyObject_HEAD
    Search search;
    PyObject *lm;   /* kept as long as the search, which reads its arrays; NULL without a model */
    bool is_busy;   /* a thread works on it without the lock */
    bool is_broken; /* memory ran out within a frame */
} SearchObject;

static void dealloc(PyObject *object) {
    SearchObject *self = (SearchObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    release(&self->search);
    Py_XDECREF(self->lm);
    type->tp_free(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(type_doc,
             "Search(num_classes, beam, threshold, lm_weight, bonus, lm)\n\n"
             "threshold can be inf. lm: a LanguageModel with the same number of classes, or None.");

static bool init(SearchObject *self, PyObject *args) {
    Search *search = &self->search;
    PyObject *lm;
    double weight, bonus;
    if (!PyArg_ParseTuple(args, "nndddO:Search", &search->num_classes, &search->beam, &search->threshold, &weight, &bonus,
                          &lm))
        return false;
    if (lm != Py_None && Py_TYPE(lm)->tp_dealloc != lm_dealloc) {
        PyErr_SetString(PyExc_TypeError, "Search: the last argument is a LanguageModel or None");
        return false;
    }
    const LmObject *model = lm == Py_None ? NULL : (const LmObject *)lm;
    const Py_ssize_t num_classes = search->num_classes;
    if (num_classes < 1 || num_classes > INT32_MAX || search->beam < 1 || search->beam > INT32_MAX ||
        !(search->threshold >= 0.0) || !isfinite(weight) || !isfinite(bonus) ||
        (model != NULL && model->num_classes != num_classes)) {
        PyErr_SetString(PyExc_ValueError, "Search: arguments that do not fit together");
        return false;
    }
    if (model != NULL) {
        self->lm = Py_NewRef(lm);
        search->lm = model->lm;
    }
    search->lm.weight = weight;
    search->lm.bonus = bonus;
    if (model == NULL ? prepare(search, 1, 0, 0.0, NULL)
                      : prepare(search, model->num_contexts, model->start, model->lowest, model->highest.view.buf))
        return true;
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

/* False, with an exception, if the search cannot be used now. */
static bool is_ready(const SearchObject *self) {
    if (self->is_busy || self->is_broken)
        PyErr_SetString(PyExc_RuntimeError, self->is_busy ? "Search: two threads at once" : "Search: out of memory");
    return !self->is_busy && !self->is_broken;
}

PyDoc_STRVAR(advance_doc,
             "advance(log_probs)\n    -> -1, or the first bad frame\n\n"
             "Take the next frames (t, V), float32 or float64. Frames before a bad one count.");

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

/* The tokens from node 0 to `last`. Adds their log probability to `lm_log_prob`. */
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

/* A candidate from `rank`, as (tokens, score, ctc_log_prob, lm_log_prob). */
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
             "Tokens do not include committed ones; scores do. With is_end, </s> counts.");

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

PyDoc_STRVAR(commit_doc, "commit()\n    -> the tokens after the committed ones with which all prefixes of the beam begin");

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

PyDoc_STRVAR(settle_doc, "settle(num_tokens)\n\nKeep prefixes that begin with the best one's first tokens after the committed ones.");

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

static int add_types(PyObject *module) {
    PyType_Spec *specs[] = {&lm_spec, &search_spec};
    for (int i = 0; i < 2; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        int status = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
        Py_XDECREF(type);
        if (status < 0) return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)add_types}, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "asrkit._native._beam", .m_slots = slots};

PyMODINIT_FUNC PyInit__beam(void) { return PyModuleDef_Init(&definition); }
