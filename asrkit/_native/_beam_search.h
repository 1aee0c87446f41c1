/* The search of _beam.c. The candidates of a frame are all prefixes of the beam, and each of them grown by each token.
 *
 * Probabilities are linear numbers, so the loops take no logarithms. Their unit changes from frame to frame, so that
 * the best prefix has about 2^TOP. Very small numbers are not lost. A prefix has two components: its paths that end in
 * a blank, and those that end in its last token. A component below FAINT is kept as a logarithm. If the outcome of a
 * frame could depend on a candidate below CLEAR, 2^-870 (603 nats) of the best, the frame is repeated in logarithms.
 * With a full beam that is rare.
 */
#include "common.h"

#define TOP 500
#define FAINT 0x1p-510 /* 2^-1010 of the best */
#define LOG_FAINT (-510 * LN2)
#define SAFE 0x1p-360  /* a component below this is summed in logarithms, because a faint part might matter in it */
#define CLEAR 0x1p-370 /* 2^-870 of the best */
#define MAX_GAIN 80 /* bits: if a prefix can gain more in a frame, a faint number could become clear in one step */
#define MIN_WEIGHT (-700.0) /* nats: classes further below the best of a frame are lost in linear arithmetic */
#define LN2 0.693147180559945309417
#define SLACK (1.0 + 1e-9) /* covers rounding in upper bounds */
#define MAX_MAGNITUDE 1e100
#define GROWN (1ull << 63)
#define NUM_BUCKETS 256
#define MIN_ROWS 4096

typedef struct {
    double in_blank, in_token;   /* linear; 0 when below FAINT */
    double log_blank, log_token; /* if the linear one is 0: the true natural logarithm, or -inf */
    double total;                /* in_blank + in_token */
    const double *factors;       /* of the language model and the bonus, for growth by each class */
    int32_t node, last_token;
} Prefix;

/* A prefix found so far. A parent comes before its children. Node 0 has no parent. It is the empty prefix, whose token
 * is the blank, or the last prefix that was committed. */
typedef struct {
    int32_t parent, token;
    int32_t context; /* of the language model */
    int32_t slot;    /* its place in the beam, or -1 */
} Node;

typedef struct {
    uint64_t key;  /* the score, mapped to an integer of the same order */
    uint64_t rank; /* of equal scores the lower rank wins: a prefix's slot, or GROWN + parent's slot << 32 + token */
} Candidate;

typedef struct {
    double bound; /* the largest factor of a score when a prefix grows by this token */
    int32_t token;
} ActiveToken;

/* The unit of linear numbers: e^nats 2^bits. */
typedef struct {
    double nats;
    int64_t bits;
} Scale;

/* The language model, as described in LmTable (`table_*`) or LmAutomaton (all others); neither without a model. */
typedef struct {
    const double *table_factors, *table_log_probs;
    const int32_t *table_next;
    const int64_t *first_arc;
    const int32_t *tokens, *next, *shorter;
    const double *log_probs, *backoff;
    const double *end;
    double weight, bonus;
} Lm;

typedef struct {
    Py_ssize_t num_classes, beam;
    double threshold;
    Lm lm;

    double *frame;   /* (V,) natural logarithms */
    double *weights; /* (V,) linear, in the units of the new frame */
    double *bounds;  /* (V,) upper bounds of the factors */
    double *no_lm;   /* (V,) factors without a language model */
    double *lm_row;  /* (V,) scratch */
    ActiveToken *active;
    uint8_t *skipped; /* (V,) all 0 between uses */
    double min_factor;
    int gain; /* bits */

    Py_ssize_t num_prefixes, capacity;
    Prefix *now, *next, *stayed; /* the beam, best first; the next beam; each prefix of the beam after this frame */
    int32_t *first_child, *next_child; /* lists of a slot's children among the prefixes of the beam; -1 ends a list */
    double *log_totals;
    Scale scale;

    Candidate *found, *spare;
    Py_ssize_t num_found, found_capacity;

    Node *nodes; /* the prefixes of the beam and those that they continue, and some that are no longer needed */
    Py_ssize_t num_nodes, node_capacity;
    int32_t *children; /* open-addressed: the node of each (parent, token), or 0 */
    int children_bits;
    int64_t num_committed;      /* tokens before node 0 */
    double committed_lm_log_prob; /* of these tokens */

    double *rows;      /* factors of the contexts found so far, without a table */
    int32_t *row_of;   /* (C,) 1 + a context's row, or 0 */
    int32_t *row_owner;
    Py_ssize_t num_rows, row_capacity;
} Search;

/* ---- scores that sort as integers ---- */

static inline uint64_t to_key(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

static inline double from_key(uint64_t key) {
    uint64_t bits = key >> 63 ? key & ~(1ull << 63) : ~key;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline bool is_better(Candidate a, Candidate b) { return a.key > b.key || (a.key == b.key && a.rank < b.rank); }

static int compare(const void *a, const void *b) {
    return is_better(*(const Candidate *)a, *(const Candidate *)b) ? -1 : 1;
}

/* Keep the `number` best candidates, best first. They are put into buckets by score. A bucket with many candidates is
 * sorted with qsort. */
static void keep_best(Search *search, Py_ssize_t number) {
    const Py_ssize_t num_found = search->num_found;
    const Candidate *found = search->found;
    if (num_found == 0) return;
    uint64_t most = 0, least = UINT64_MAX;
    for (Py_ssize_t i = 0; i < num_found; i++) {
        if (found[i].key > most) most = found[i].key;
        if (found[i].key < least) least = found[i].key;
    }
    int shift = 0;
    while ((most - least) >> shift >= NUM_BUCKETS) shift++;
    Py_ssize_t ends[NUM_BUCKETS + 1] = {0};
    for (Py_ssize_t i = 0; i < num_found; i++) ends[(most - found[i].key) >> shift]++;
    int num_buckets = 0;
    Py_ssize_t num_kept = 0;
    while (num_kept < num_found && num_kept < number) {
        Py_ssize_t size = ends[num_buckets];
        ends[num_buckets++] = num_kept;
        num_kept += size;
    }
    Candidate *kept = search->spare;
    for (Py_ssize_t i = 0; i < num_found; i++) {
        uint64_t bucket = (most - found[i].key) >> shift;
        if (bucket < (uint64_t)num_buckets) kept[ends[bucket]++] = found[i];
    }
    Py_ssize_t start = 0;
    for (int bucket = 0; bucket < num_buckets; start = ends[bucket++]) {
        Py_ssize_t size = ends[bucket] - start;
        if (size > 32) {
            qsort(kept + start, (size_t)size, sizeof *kept, compare);
            continue;
        }
        for (Py_ssize_t i = start + 1; i < ends[bucket]; i++) {
            Candidate moved = kept[i];
            Py_ssize_t j = i;
            for (; j > start && is_better(moved, kept[j - 1]); j--) kept[j] = kept[j - 1];
            kept[j] = moved;
        }
    }
    search->spare = search->found;
    search->found = kept;
    search->num_found = num_kept < number ? num_kept : number;
}

/* ---- memory ---- */

static bool resize(void *array, Py_ssize_t count, size_t size) {
    void *old, *new;
    memcpy(&old, array, sizeof old);
    if ((size_t)count > PY_SSIZE_T_MAX / size || (new = realloc(old, (size_t)count * size)) == NULL) return false;
    memcpy(array, &new, sizeof new);
    return true;
}

#define RESIZE(array, count) resize(&(array), count, sizeof *(array))

static bool reserve_prefixes(Search *search, Py_ssize_t count) {
    if (count <= search->capacity) return true;
    count = count < search->beam / 2 ? 2 * count : search->beam;
    search->capacity = count;
    return RESIZE(search->now, count) && RESIZE(search->next, count) && RESIZE(search->stayed, count) &&
           RESIZE(search->first_child, count) && RESIZE(search->next_child, count) &&
           RESIZE(search->log_totals, count);
}

/* Make room for the candidates that one frame can find before keep_best must be called. */
static bool reserve_found(Search *search) {
    int64_t most = 4 * (int64_t)search->beam + 64, needed = most;
    if (search->num_prefixes <= most / search->num_classes) needed = search->num_prefixes * search->num_classes;
    if (needed <= search->found_capacity) return true;
    if (needed < most / 2) needed *= 2;
    if (needed > PY_SSIZE_T_MAX) return false;
    search->found_capacity = needed;
    return RESIZE(search->found, needed) && RESIZE(search->spare, needed);
}

static inline uint64_t child_hash(const Search *search, int32_t parent, int32_t token) {
    return (((uint64_t)parent << 32 | (uint32_t)token) * 0x9E3779B97F4A7C15u) >> (64 - search->children_bits);
}

static inline uint64_t next_hash(const Search *search, uint64_t hash) {
    return (hash + 1) & (((uint64_t)1 << search->children_bits) - 1);
}

/* Enter all nodes into an empty table of children. */
static void enter_children(Search *search) {
    for (int32_t node = 1; node < search->num_nodes; node++) {
        uint64_t hash = child_hash(search, search->nodes[node].parent, search->nodes[node].token);
        while (search->children[hash] != 0) hash = next_hash(search, hash);
        search->children[hash] = node;
    }
}

/* Make `root`, which all prefixes of the beam continue, node 0. Forget the nodes that none of them continues. Those can
 * come back only as new nodes, because a prefix always grows from one that is in the beam. */
static void collect(Search *search, int32_t root) {
    Node *nodes = search->nodes;
    int32_t *new_number = search->children; /* reuses its memory: it is rebuilt below */
    const size_t table_size = ((size_t)1 << search->children_bits) * sizeof *search->children;
    memset(new_number, 0, (size_t)search->num_nodes * sizeof *new_number);
    for (Py_ssize_t i = 0; i < search->num_prefixes; i++)
        for (int32_t node = search->now[i].node; node != root && new_number[node] == 0; node = nodes[node].parent)
            new_number[node] = 1;
    int32_t num_kept = 1;
    nodes[0] = nodes[root];
    nodes[0].parent = -1;
    new_number[root] = 0;
    for (int32_t node = root + 1; node < search->num_nodes; node++) {
        if (new_number[node] == 0) continue;
        nodes[num_kept] = nodes[node];
        nodes[num_kept].parent = new_number[nodes[node].parent];
        new_number[node] = num_kept++;
    }
    for (Py_ssize_t i = 0; i < search->num_prefixes; i++)
        search->stayed[i].node = search->now[i].node = new_number[search->now[i].node];
    search->num_nodes = num_kept;
    memset(search->children, 0, table_size);
    enter_children(search);
}

/* Make room for `count` more nodes. */
static bool reserve_nodes(Search *search, Py_ssize_t count) {
    if (search->num_nodes + count <= search->node_capacity) return true;
    if (search->num_nodes > 0) collect(search, 0);
    count += search->num_nodes;
    if (2 * count <= search->node_capacity) return true;
    if (count > INT32_MAX / 4) return false;
    Py_ssize_t capacity = search->node_capacity == 0 ? 2048 : 2 * search->node_capacity;
    while (capacity < 2 * count) capacity *= 2;
    if (!RESIZE(search->nodes, capacity)) return false;
    search->node_capacity = capacity;
    search->children_bits = 2; /* so that at least half of the places stay empty */
    while ((Py_ssize_t)1 << search->children_bits < 2 * capacity) search->children_bits++;
    free(search->children);
    search->children = calloc((size_t)1 << search->children_bits, sizeof *search->children);
    if (search->children == NULL) return false;
    enter_children(search);
    return true;
}

/* ---- the language model ---- */

/* The arc of `context` for `token`, or -1. */
static int64_t find_arc(const Lm *lm, int32_t context, int32_t token) {
    int64_t first = lm->first_arc[context], last = lm->first_arc[context + 1];
    while (first < last) {
        int64_t middle = first + (last - first) / 2;
        if (lm->tokens[middle] < token)
            first = middle + 1;
        else
            last = middle;
    }
    return first < lm->first_arc[context + 1] && lm->tokens[first] == token ? first : -1;
}

/* The context after `token`. Writes the token's natural log probability to `log_prob`, unless that is NULL. */
static int32_t advance(const Search *search, int32_t context, int32_t token, double *log_prob) {
    const Lm *lm = &search->lm;
    double backoff = 0.0;
    if (lm->table_next != NULL) {
        Py_ssize_t entry = context * search->num_classes + token;
        if (log_prob != NULL) *log_prob = lm->table_log_probs[entry];
        return lm->table_next[entry];
    }
    if (lm->first_arc == NULL) {
        if (log_prob != NULL) *log_prob = 0.0;
        return 0;
    }
    for (;;) {
        int64_t arc = find_arc(lm, context, token);
        if (arc >= 0) {
            if (log_prob != NULL) *log_prob = lm->log_probs[arc] + backoff;
            return lm->next[arc];
        }
        backoff += lm->backoff[context];
        context = lm->shorter[context];
    }
}

/* Fill `factors` (V,) for growth in `context`, for a model without a table. */
static void fill_row(Search *search, int32_t context, double *factors) {
    const Lm *lm = &search->lm;
    double *row = search->lm_row, backoff = 0.0;
    for (Py_ssize_t k = 0; k < search->num_classes; k++) row[k] = NAN;
    for (;; context = lm->shorter[context]) {
        for (int64_t arc = lm->first_arc[context]; arc < lm->first_arc[context + 1]; arc++)
            if (isnan(row[lm->tokens[arc]])) row[lm->tokens[arc]] = lm->log_probs[arc] + backoff;
        if (context == 0) break;
        backoff += lm->backoff[context];
    }
    factors[0] = 0.0;
    for (Py_ssize_t k = 1; k < search->num_classes; k++) factors[k] = exp(lm->weight * row[k] + lm->bonus);
}

/* Set the factors of each prefix of the next beam. */
static bool find_factors(Search *search, Py_ssize_t num_next) {
    const Py_ssize_t num_classes = search->num_classes;
    Prefix *next = search->next;
    if (search->lm.first_arc == NULL) {
        const double *table = search->lm.table_factors;
        for (Py_ssize_t i = 0; i < num_next; i++)
            next[i].factors =
                table == NULL ? search->no_lm : table + search->nodes[next[i].node].context * num_classes;
        return true;
    }
    if (search->num_rows + num_next > search->row_capacity) { /* start again, which limits the size of the arrays */
        while (search->num_rows > 0) search->row_of[search->row_owner[--search->num_rows]] = 0;
        if (2 * num_next > search->row_capacity || search->rows == NULL) {
            search->row_capacity = 2 * num_next > MIN_ROWS ? 2 * num_next : MIN_ROWS;
            if (search->row_capacity > PY_SSIZE_T_MAX / num_classes ||
                !RESIZE(search->rows, search->row_capacity * num_classes) ||
                !RESIZE(search->row_owner, search->row_capacity))
                return false;
        }
    }
    for (Py_ssize_t i = 0; i < num_next; i++) {
        int32_t context = search->nodes[next[i].node].context, *row = &search->row_of[context];
        if (*row == 0) {
            fill_row(search, context, search->rows + search->num_rows * num_classes);
            search->row_owner[search->num_rows++] = context;
            *row = (int32_t)search->num_rows;
        }
        next[i].factors = search->rows + (*row - 1) * num_classes;
    }
    return true;
}

/* Replace the beam by the next one. */
static bool take_next(Search *search, Py_ssize_t num_next) {
    if (!find_factors(search, num_next)) return false;
    Prefix *now = search->now;
    search->now = search->next;
    search->next = now;
    search->num_prefixes = num_next;
    return true;
}

/* ---- one frame ---- */

static inline double add_logs(double a, double b) {
    double most = a > b ? a : b, least = a > b ? b : a;
    return least == -INFINITY ? most : most + log1p(exp(least - most));
}

static double to_log(double value, Scale scale) {
    int exponent;
    double mantissa = frexp(value, &exponent);
    return log(mantissa) + (double)(exponent + scale.bits) * LN2 + scale.nats;
}

static inline double log_blank(const Prefix *prefix, Scale scale) {
    return prefix->in_blank > 0.0 ? to_log(prefix->in_blank, scale) : prefix->log_blank;
}

static inline double log_token(const Prefix *prefix, Scale scale) {
    return prefix->in_token > 0.0 ? to_log(prefix->in_token, scale) : prefix->log_token;
}

static double log_total(const Prefix *prefix, Scale scale) {
    if (prefix->in_blank > 0.0 && prefix->in_token > 0.0) return to_log(prefix->total, scale);
    return add_logs(log_blank(prefix, scale), log_token(prefix, scale));
}

/* Linear value of a logarithm, 0 when faint. */
static inline double to_linear(double logarithm, Scale scale) {
    double in_units = logarithm - scale.nats - (double)scale.bits * LN2;
    return in_units < LOG_FAINT ? 0.0 : exp(in_units);
}

/* Logarithm of the score of the prefix in slot `from`, grown by `token`. */
static double log_growth(const Search *search, Py_ssize_t from, int32_t token, double total) {
    const Prefix *prefix = &search->now[from];
    double lm_log_prob, grown = token == prefix->last_token ? log_blank(prefix, search->scale) : total;
    advance(search, search->nodes[prefix->node].context, token, &lm_log_prob);
    return grown + search->frame[token] + search->lm.weight * lm_log_prob + search->lm.bonus;
}

/* The slot of the parent of the prefix in slot `i`, or -1. Enters the prefix into the parent's list. */
static inline Py_ssize_t join_parent(Search *search, Py_ssize_t i) {
    int32_t parent = search->nodes[search->now[i].node].parent;
    int32_t slot = parent < 0 ? -1 : search->nodes[parent].slot;
    if (slot >= 0) {
        search->next_child[i] = search->first_child[slot];
        search->first_child[slot] = (int32_t)i;
    }
    return slot;
}

static inline void mark_children(Search *search, Py_ssize_t slot, uint8_t mark) {
    for (int32_t child = search->first_child[slot]; child >= 0; child = search->next_child[child])
        search->skipped[search->now[child].last_token] = mark;
}

/* Make a beam of the candidates found. Scores and `stayed` are logarithms if `is_log`. */
static bool adopt(Search *search, bool is_log, Scale scale) {
    const Py_ssize_t num_next = search->num_found;
    if (!reserve_prefixes(search, num_next) || !reserve_nodes(search, num_next)) return false;
    Prefix *now = search->now, *next = search->next;
    for (Py_ssize_t i = 0; i < num_next; i++) {
        Candidate candidate = search->found[i];
        if (candidate.rank < GROWN) {
            next[i] = search->stayed[candidate.rank];
        } else {
            const Prefix *parent = &now[candidate.rank >> 32 & 0x7FFFFFFF];
            int32_t token = (int32_t)(candidate.rank & 0x7FFFFFFF);
            /* A pruned prefix can come back while its own continuations are still in the beam. It gets its old node,
             * so that they find their parent. */
            uint64_t hash = child_hash(search, parent->node, token);
            int32_t node;
            while ((node = search->children[hash]) != 0 &&
                   (search->nodes[node].parent != parent->node || search->nodes[node].token != token))
                hash = next_hash(search, hash);
            if (node == 0) {
                node = search->children[hash] = (int32_t)search->num_nodes++;
                int32_t context = advance(search, search->nodes[parent->node].context, token, NULL);
                search->nodes[node] = (Node){.parent = parent->node, .token = token, .context = context, .slot = -1};
            }
            next[i] = (Prefix){.node = node, .last_token = token, .log_blank = -INFINITY, .log_token = -INFINITY};
            if (is_log)
                next[i].log_token = from_key(candidate.key);
            else
                next[i].in_token = next[i].total = from_key(candidate.key);
        }
        if (is_log) {
            next[i].in_blank = to_linear(next[i].log_blank, scale);
            next[i].in_token = to_linear(next[i].log_token, scale);
            next[i].total = next[i].in_blank + next[i].in_token;
        }
    }
    for (Py_ssize_t i = 0; i < search->num_prefixes; i++) search->nodes[now[i].node].slot = -1;
    for (Py_ssize_t i = 0; i < num_next; i++) search->nodes[next[i].node].slot = (int32_t)i;
    search->scale = scale;
    return take_next(search, num_next);
}

/* Drop candidates that are more than the threshold below the best. */
static void apply_threshold(Search *search, bool is_log) {
    if (search->threshold == INFINITY || search->num_found == 0) return;
    double best = from_key(search->found[0].key);
    uint64_t floor = to_key(is_log ? best - search->threshold : best * exp(-search->threshold));
    while (search->num_found > 1 && search->found[search->num_found - 1].key < floor) search->num_found--;
}

/* The frame in logarithms, exactly as in the reference. */
static bool search_in_logs(Search *search) {
    const Py_ssize_t num_prefixes = search->num_prefixes, num_classes = search->num_classes;
    const double *frame = search->frame;
    const Prefix *now = search->now;
    for (Py_ssize_t i = 0; i < num_prefixes; i++) {
        search->first_child[i] = -1;
        search->log_totals[i] = log_total(&now[i], search->scale);
    }
    search->num_found = 0;
    for (Py_ssize_t i = 0; i < num_prefixes; i++) {
        Prefix *stayed = &search->stayed[i];
        *stayed = now[i];
        stayed->log_blank = search->log_totals[i] + frame[0];
        stayed->log_token = log_token(&now[i], search->scale) + frame[now[i].last_token];
        Py_ssize_t parent = join_parent(search, i);
        if (parent >= 0) {
            double grown = log_growth(search, parent, now[i].last_token, search->log_totals[parent]);
            stayed->log_token = add_logs(stayed->log_token, grown);
        }
        double score = add_logs(stayed->log_blank, stayed->log_token);
        if (score > -INFINITY) search->found[search->num_found++] = (Candidate){to_key(score), (uint64_t)i};
    }
    double floor = -INFINITY;
    for (Py_ssize_t i = 0; i < num_prefixes; i++) {
        mark_children(search, i, 1);
        for (Py_ssize_t k = 1; k < num_classes; k++) {
            if (search->skipped[k]) continue;
            double score = log_growth(search, i, (int32_t)k, search->log_totals[i]);
            if (!(score > -INFINITY && score >= floor)) continue;
            if (search->num_found == search->found_capacity) {
                keep_best(search, search->beam);
                floor = from_key(search->found[search->num_found - 1].key);
            }
            search->found[search->num_found++] = (Candidate){to_key(score), GROWN | (uint64_t)i << 32 | (uint64_t)k};
        }
        mark_children(search, i, 0);
    }
    keep_best(search, search->beam);
    apply_threshold(search, true);
    Scale scale = {.nats = search->num_found == 0 ? 0.0 : from_key(search->found[0].key), .bits = -TOP};
    return adopt(search, true, scale);
}

/* True if all possible candidates of this frame were certainly above CLEAR. */
static bool is_all_clear(const Search *search) {
    double least = search->min_factor < 1.0 ? search->min_factor : 1.0, least_weight = INFINITY, least_part = INFINITY;
    for (Py_ssize_t k = 0; k < search->num_classes; k++)
        if (search->frame[k] > -INFINITY && search->weights[k] < least_weight) least_weight = search->weights[k];
    for (Py_ssize_t i = 0; i < search->num_prefixes; i++) {
        const Prefix *prefix = &search->now[i];
        if (prefix->in_blank > 0.0 ? prefix->in_blank < least_part : prefix->log_blank > -INFINITY)
            least_part = prefix->in_blank;
        if (prefix->in_token > 0.0 ? prefix->in_token < least_part : prefix->log_token > -INFINITY)
            least_part = prefix->in_token;
    }
    return least * least_weight * least_part >= CLEAR * SLACK;
}

/* Read frame `t` of log_probs (T, V), doubles or floats, into `frame`. Returns its greatest entry, or NaN for a bad
 * frame. */
static double load_frame(Search *search, const void *log_probs, bool is_double, Py_ssize_t t) {
    const Py_ssize_t num_classes = search->num_classes;
    double *frame = search->frame, most = -INFINITY;
    bool is_nan = false;
    for (Py_ssize_t k = 0; k < num_classes; k++) {
        frame[k] = is_double ? ((const double *)log_probs)[t * num_classes + k]
                             : ((const float *)log_probs)[t * num_classes + k];
        most = frame[k] > most ? frame[k] : most;
        is_nan |= isnan(frame[k]);
    }
    return is_nan || !(fabs(most) <= MAX_MAGNITUDE) ? NAN : most;
}

/* The prefixes of the beam that do not grow: all go to `stayed`, those that are clear also to `found`. */
static void stay(Search *search, Scale scale) {
    const Py_ssize_t num_prefixes = search->num_prefixes;
    const Prefix *now = search->now;
    const double *weights = search->weights, *frame = search->frame;
    search->num_found = 0;
    for (Py_ssize_t i = 0; i < num_prefixes; i++) search->first_child[i] = -1;
    for (Py_ssize_t i = 0; i < num_prefixes; i++) {
        const Prefix *prefix = &now[i];
        Prefix *stayed = &search->stayed[i];
        const int32_t last = prefix->last_token;
        double in_blank = prefix->total * weights[0], in_token = prefix->in_token * weights[last];
        Py_ssize_t parent = join_parent(search, i);
        if (parent >= 0) {
            const Prefix *from = &now[parent];
            in_token += (from->last_token == last ? from->in_blank : from->total) * weights[last] * from->factors[last];
        }
        *stayed = *prefix;
        if (in_blank < SAFE) {
            stayed->log_blank = log_total(prefix, search->scale) + frame[0];
            in_blank = to_linear(stayed->log_blank, scale);
        }
        if (in_token < FAINT || (in_token < SAFE && (parent >= 0 || prefix->in_token == 0.0))) {
            double logarithm = log_token(prefix, search->scale) + frame[last];
            if (parent >= 0) {
                double total = log_total(&now[parent], search->scale);
                logarithm = add_logs(logarithm, log_growth(search, parent, last, total));
            }
            stayed->log_token = logarithm;
            in_token = to_linear(logarithm, scale);
        }
        stayed->in_blank = in_blank;
        stayed->in_token = in_token;
        stayed->total = in_blank + in_token;
        if (stayed->total >= CLEAR)
            search->found[search->num_found++] = (Candidate){to_key(stayed->total), (uint64_t)i};
    }
}

/* Growth by every token: candidates that are clear and not below the floor go to `found`. */
static void grow(Search *search) {
    const Py_ssize_t num_prefixes = search->num_prefixes, num_classes = search->num_classes;
    const Prefix *now = search->now;
    const double *weights = search->weights;
    /* If the prefixes that do not grow already fill a beam, growth must reach at least the worst of them. */
    double floor = CLEAR, best = 0.0, worst = INFINITY;
    for (Py_ssize_t i = 0; i < search->num_found; i++) {
        double score = from_key(search->found[i].key);
        best = score > best ? score : best;
        worst = score < worst ? score : worst;
    }
    if (search->num_found == search->beam) floor = worst;
    double threshold = best * exp(-search->threshold) / SLACK;
    if (threshold > floor) floor = threshold;

    /* The tokens with which the best prefix can reach it, most promising first. */
    ActiveToken *active = search->active;
    Py_ssize_t num_active = 0;
    const double needed = floor / now[0].total / SLACK;
    for (Py_ssize_t k = 1; k < num_classes; k++) {
        double bound = weights[k] * search->bounds[k];
        if (bound < needed || bound == 0.0) continue;
        Py_ssize_t j = num_active++;
        for (; j > 0 && active[j - 1].bound < bound; j--) active[j] = active[j - 1];
        active[j] = (ActiveToken){bound, (int32_t)k};
    }
    if (num_active == 0) return;

    for (Py_ssize_t i = 0; i < num_prefixes; i++) {
        const Prefix *prefix = &now[i];
        const double total = prefix->total, *factors = prefix->factors;
        if (total * active[0].bound < floor) break;
        mark_children(search, i, 1);
        for (Py_ssize_t j = 0; j < num_active && total * active[j].bound >= floor; j++) {
            const int32_t token = active[j].token;
            double score = (token == prefix->last_token ? prefix->in_blank : total) * weights[token] * factors[token];
            if (score < floor || search->skipped[token]) continue;
            if (search->num_found == search->found_capacity) {
                keep_best(search, search->beam);
                double reached = from_key(search->found[search->num_found - 1].key);
                if (search->num_found == search->beam && reached > floor) floor = reached;
            }
            search->found[search->num_found++] =
                (Candidate){to_key(score), GROWN | (uint64_t)i << 32 | (uint64_t)token};
        }
        mark_children(search, i, 0);
    }
}

/* One frame, whose greatest entry is `most`. Returns false if there is not enough memory. */
static bool search_frame(Search *search, double most) {
    int exponent;
    frexp(search->now[0].total, &exponent);
    const int boost = TOP - exponent;
    if (boost + search->gain > MAX_GAIN) return search_in_logs(search);
    const double unit = ldexp(1.0, boost);
    const Scale scale = {search->scale.nats + most, search->scale.bits - boost};
    for (Py_ssize_t k = 0; k < search->num_classes; k++) {
        double weight = search->frame[k] - most;
        search->weights[k] = weight < MIN_WEIGHT ? 0.0 : exp(weight) * unit;
    }
    stay(search, scale);
    grow(search);
    keep_best(search, search->beam);
    if (search->num_found < search->beam && !is_all_clear(search) &&
        !(search->num_found > 0 && from_key(search->found[0].key) * exp(-search->threshold) >= CLEAR))
        return search_in_logs(search);
    apply_threshold(search, false);
    return adopt(search, false, scale);
}

/* ---- the whole search ---- */

/* Allocate memory, and put the empty prefix, in the context `start`, into the beam. `lowest` and `highest` (V,), or
 * NULL without a model, are bounds of the model's log probabilities. */
static bool prepare(Search *search, Py_ssize_t num_contexts, int32_t start, double lowest, const double *highest) {
    const Py_ssize_t num_classes = search->num_classes;
    const Lm *lm = &search->lm;
    if (!(RESIZE(search->frame, num_classes) && RESIZE(search->weights, num_classes) &&
          RESIZE(search->bounds, num_classes) && RESIZE(search->no_lm, num_classes) &&
          RESIZE(search->lm_row, num_classes) && RESIZE(search->active, num_classes) &&
          RESIZE(search->skipped, num_classes) && reserve_prefixes(search, 1) && reserve_nodes(search, 1)))
        return false;
    if (lm->first_arc != NULL && (search->row_of = calloc((size_t)num_contexts, sizeof *search->row_of)) == NULL)
        return false;
    memset(search->skipped, 0, (size_t)num_classes);
    double least = lm->bonus, most = lm->bonus;
    for (Py_ssize_t k = 1; k < num_classes; k++) {
        double high = highest == NULL ? 0.0 : lm->weight * highest[k];
        double low = highest == NULL ? 0.0 : lm->weight * lowest;
        least = fmin(least, fmin(high, low) + lm->bonus);
        most = fmax(most, fmax(high, low) + lm->bonus);
        search->bounds[k] = exp(fmax(high, low) + lm->bonus) * SLACK;
        search->no_lm[k] = exp(lm->bonus);
    }
    search->min_factor = exp(least) / SLACK;
    search->gain = most < 1000.0 ? (int)ceil(fmax(most, -1000.0) / LN2) : MAX_GAIN + 1000;
    search->scale.bits = -TOP;
    search->nodes[0] = (Node){.parent = -1, .context = start, .slot = 0};
    search->num_nodes = 1;
    search->next[0] = (Prefix){.in_blank = 0x1p500, .total = 0x1p500, .log_token = -INFINITY};
    return take_next(search, 1);
}

static void release(Search *search) {
    free(search->frame);
    free(search->weights);
    free(search->bounds);
    free(search->no_lm);
    free(search->lm_row);
    free(search->active);
    free(search->skipped);
    free(search->now);
    free(search->next);
    free(search->stayed);
    free(search->first_child);
    free(search->next_child);
    free(search->log_totals);
    free(search->found);
    free(search->spare);
    free(search->nodes);
    free(search->children);
    free(search->rows);
    free(search->row_of);
    free(search->row_owner);
}

/* Rank the beam, with the end of the sentence if `is_end`. Scores and slots are then in `found`. */
static bool rank(Search *search, Py_ssize_t num_best, bool is_end) {
    const Lm *lm = &search->lm;
    if (!reserve_found(search)) return false;
    search->num_found = 0;
    for (Py_ssize_t i = 0; i < search->num_prefixes; i++) {
        double score = search->log_totals[i] = log_total(&search->now[i], search->scale);
        if (lm->end != NULL && is_end) score += lm->weight * lm->end[search->nodes[search->now[i].node].context];
        if (score > -INFINITY) search->found[search->num_found++] = (Candidate){to_key(score), (uint64_t)i};
    }
    keep_best(search, num_best);
    return true;
}

/* The last node that every prefix of the beam is or continues. */
static int32_t find_common(const Search *search) {
    int32_t common = search->num_prefixes > 0 ? search->now[0].node : 0;
    for (Py_ssize_t i = 1; i < search->num_prefixes; i++)
        for (int32_t node = search->now[i].node; node != common;) {
            if (node > common)
                node = search->nodes[node].parent;
            else
                common = search->nodes[common].parent;
        }
    return common;
}

/* Drop the prefixes that differ from the best one in its first `num_tokens` tokens after node 0 (all, if fewer). */
static void settle(Search *search, int64_t num_tokens) {
    Node *nodes = search->nodes;
    Prefix *now = search->now;
    int64_t depth = 0;
    if (search->num_prefixes == 0) return;
    for (int32_t node = now[0].node; node != 0; node = nodes[node].parent) depth++;
    int32_t settled = now[0].node;
    for (; depth > num_tokens; depth--) settled = nodes[settled].parent;
    Py_ssize_t num_kept = 0;
    for (Py_ssize_t i = 0; i < search->num_prefixes; i++) {
        int32_t node = now[i].node;
        while (node > settled) node = nodes[node].parent;
        nodes[now[i].node].slot = node == settled ? (int32_t)num_kept : -1;
        if (node == settled) now[num_kept++] = now[i];
    }
    search->num_prefixes = num_kept;
}
