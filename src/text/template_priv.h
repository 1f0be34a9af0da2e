/*
 * text/template_priv.h - what the files of the template interpreter share: values, the syntax tree
 * and the context of one render. Nothing outside src/text/template*.c includes it.
 *
 * A function that can fail returns false (or NULL) after oct_tmpl_fail and its like wrote the
 * reason; callers only pass the false on.
 *
 * Ownership  Tree: the template's arena. Values: the arena of the render; nothing is freed before
 *            its end, so values are copied freely.
 * Threads    A tree is read by any thread; a context belongs to one.
 */
#ifndef OCT_TEXT_TEMPLATE_PRIV_H
#define OCT_TEXT_TEMPLATE_PRIV_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/attr.h"
#include "text/template.h"

typedef struct tmpl_ctx tmpl_ctx;
typedef struct tmpl_node tmpl_node;
typedef struct tmpl_list tmpl_list;
typedef struct tmpl_dict tmpl_dict;

/* ---- values ---- */

typedef enum tmpl_kind {
    TMPL_ABSENT, /* an argument that was not given; never seen by a template */
    TMPL_UNDEF,
    TMPL_NONE,
    TMPL_BOOL,
    TMPL_INT,
    TMPL_FLOAT,
    TMPL_STR,
    TMPL_LIST,
    TMPL_TUPLE,
    TMPL_DICT,
    TMPL_NS,     /* namespace(...): a dict that `set ns.x` may change */
    TMPL_MACRO,  /* a macro with the scope it was defined in */
    TMPL_FUNC,   /* a global function */
    TMPL_METHOD, /* "abc".split: a method with its object */
    TMPL_LOOP,
    TMPL_CYCLER,
    TMPL_JOINER,
} tmpl_kind;

enum {
    TMPL_SAFE = 1, /* string: went through |safe; + escapes what is joined to it */
};

typedef struct tmpl_undef { /* says in an error message what was not there */
    oct_str name;
    uint8_t owner; /* tmpl_kind of the object asked, TMPL_ABSENT for a variable */
    const char *why;
} tmpl_undef;

typedef struct tmpl_val {
    uint8_t kind, flags;
    uint32_t len; /* string: bytes */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s; /* UTF-8, not terminated */
        tmpl_list *list;
        tmpl_dict *dict; /* also namespaces */
        const tmpl_undef *undef;
        struct tmpl_macro *macro;
        struct tmpl_method *method;
        struct tmpl_loop *loop;
        struct tmpl_cycler *cycler;
        const struct tmpl_func *func;
    } u;
} tmpl_val;

struct tmpl_list {
    tmpl_val *at; /* [cap] */
    uint32_t n, cap;
    bool frozen; /* came from outside: append and pop are refused */
};

struct tmpl_dict {
    tmpl_val *keys, *vals; /* [cap], in order of insertion */
    uint32_t n, cap;
    uint32_t *index; /* [index_cap] slot + 1 by hash, NULL while small; index_cap a power of two */
    uint32_t index_cap;
};

typedef struct tmpl_scope {
    struct tmpl_scope *up;
    tmpl_dict vars;
    bool captured; /* a macro refers to it: a loop must not reuse it */
} tmpl_scope;

typedef struct tmpl_macro {
    const tmpl_node *node;
    tmpl_scope *scope; /* where it was defined */
    tmpl_val caller;   /* body of a call block, or absent */
} tmpl_macro;

typedef struct tmpl_loop {
    const tmpl_val *items; /* [n] */
    uint32_t n, index0;
    tmpl_val changed; /* what loop.changed() saw last; absent before */
} tmpl_loop;

typedef struct tmpl_cycler { /* also a joiner: items[0] is its separator */
    tmpl_list *items;
    uint32_t at;
} tmpl_cycler;

/* Arguments of a call: positional, then named. */
typedef struct tmpl_args {
    const tmpl_val *pos;
    uint32_t n_pos, n_kw;
    const oct_str *kw_names;
    const tmpl_val *kw;
} tmpl_args;

typedef bool (*tmpl_filter_fn)(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, tmpl_val *out);
typedef bool (*tmpl_test_fn)(tmpl_ctx *c, tmpl_val in, const tmpl_args *a, bool *out);
typedef bool (*tmpl_func_fn)(tmpl_ctx *c, const tmpl_args *a, tmpl_val *out);

typedef struct tmpl_filter {
    const char *name;
    tmpl_filter_fn fn;
} tmpl_filter;

typedef struct tmpl_test {
    const char *name;
    tmpl_test_fn fn;
} tmpl_test;

typedef struct tmpl_func {
    const char *name;
    tmpl_func_fn fn;
} tmpl_func;

typedef struct tmpl_method {
    tmpl_val self;
    const tmpl_filter *fn; /* a method is a filter on its object */
} tmpl_method;

/* ---- tokens ---- */

typedef enum tmpl_tok_kind {
    TMPL_TOK_EOF,
    TMPL_TOK_DATA,
    TMPL_TOK_VAR_BEGIN,
    TMPL_TOK_VAR_END,
    TMPL_TOK_BLOCK_BEGIN,
    TMPL_TOK_BLOCK_END,
    TMPL_TOK_NAME,
    TMPL_TOK_STRING,
    TMPL_TOK_INT,
    TMPL_TOK_FLOAT,
    TMPL_TOK_OP,
} tmpl_tok_kind;

/* Operators: their character, or one of these for two characters. */
enum { TMPL_OP_EQ = 128, TMPL_OP_NE, TMPL_OP_LE, TMPL_OP_GE, TMPL_OP_FLOORDIV, TMPL_OP_POW };
/* Comparisons that are words. */
enum { TMPL_OP_IN = 160, TMPL_OP_NOTIN };

typedef struct tmpl_tok {
    uint8_t kind, op;
    uint32_t line;
    oct_str text; /* name, data, decoded string */
    union {
        int64_t i;
        double f;
    } num;
} tmpl_tok;

/* Everything that compiling needs; lives on the stack of oct_template_create. */
typedef struct tmpl_compiler {
    oct_arena *arena;
    oct_err *err;
    oct_status status;
    const char *stack_base;
    const tmpl_tok *toks; /* ends with EOF */
    uint32_t at;          /* the current token */
    uint32_t nesting, loops;
    bool soft; /* inside a branch: an unknown filter fails when it is reached, as in Jinja */
    const tmpl_tok *unknown; /* name of an unknown filter or test outside every branch, or NULL */
} tmpl_compiler;

/* Fails the compilation at a line; returns NULL for every pointer type. */
void *oct_tmpl_syntax(tmpl_compiler *k, uint32_t line, const char *fmt, ...) OCT_PRINTF(3, 4);
void *oct_tmpl_compile_alloc(tmpl_compiler *k, size_t n, size_t size);

/* Splits source (UTF-8) into tokens; NULL on failure. */
const tmpl_tok *oct_tmpl_lex(tmpl_compiler *k, oct_str source);

/* ---- the tree ---- */

typedef enum tmpl_node_kind {
    /* expressions */
    TMPL_N_LIT,
    TMPL_N_NAME,
    TMPL_N_LIST,
    TMPL_N_TUPLE,
    TMPL_N_DICT, /* key, value, key, value ... */
    TMPL_N_COND, /* condition, then[, else] */
    TMPL_N_OR,   /* two and more */
    TMPL_N_AND,
    TMPL_N_NOT,
    TMPL_N_NEG,
    TMPL_N_POS,
    TMPL_N_CMP,     /* kids[0] ops[1] kids[1] ops[2] ... */
    TMPL_N_CHAIN,   /* the same for + - * / // % ** of one precedence */
    TMPL_N_CONCAT,  /* ~ */
    TMPL_N_POSTFIX, /* kids[0], then the steps below applied to it in turn */
    /* steps of a postfix */
    TMPL_N_ATTR,  /* .name */
    TMPL_N_ITEM,  /* [kids[0]] */
    TMPL_N_SLICE, /* [kids[0]:kids[1]:kids[2]], each may be NULL */
    TMPL_N_CALL,  /* arguments, see names and ops */
    TMPL_N_FILTER,
    TMPL_N_TEST, /* flag: negated */
    /* statements */
    TMPL_N_BODY,
    TMPL_N_TEXT,
    TMPL_N_OUTPUT,
    TMPL_N_IF,        /* condition, body, condition, body, ...[, else body] */
    TMPL_N_FOR,       /* target, iterable, filter or NULL, body, else or NULL; flag: reads `loop` */
    TMPL_N_SET,       /* target, value */
    TMPL_N_SETBLOCK,  /* target, filter postfix or NULL, body */
    TMPL_N_MACRO,     /* defaults or NULL per parameter, then body; names: the parameters */
    TMPL_N_CALLBLOCK, /* macro node of the body, the call */
    TMPL_N_FILTERBLOCK, /* filter postfix, body */
    TMPL_N_WITH,        /* target, value, target, value, ..., body */
    TMPL_N_SCOPE,       /* body in a scope of its own */
    TMPL_N_BREAK,
    TMPL_N_CONTINUE,
    /* assignment targets (besides NAME and TUPLE) */
    TMPL_N_NSREF, /* name . names[0] */
} tmpl_node_kind;

enum { TMPL_ARG_PLAIN, TMPL_ARG_STAR, TMPL_ARG_STARSTAR }; /* ops of call arguments */
enum { TMPL_USES_VARARGS = 1, TMPL_USES_KWARGS = 2, TMPL_USES_CALLER = 4 }; /* op of a macro */

struct tmpl_node {
    uint8_t kind, op;
    bool flag;
    uint32_t line, n; /* n: kids */
    oct_str name;
    tmpl_val lit;
    union {
        tmpl_filter_fn filter;
        tmpl_test_fn test;
    } fn; /* NULL: unknown and not refused when compiled */
    tmpl_node **kids;
    oct_str *names; /* [n] keyword of each argument, ptr NULL for positional */
    uint8_t *ops;   /* [n] */
};

/* Expressions; NULL on failure. with_cond false: no "a if b" on the outermost level. */
tmpl_node *oct_tmpl_parse_expr(tmpl_compiler *k, bool with_cond);
tmpl_node *oct_tmpl_parse_tuple(tmpl_compiler *k, bool with_cond, bool explicit_parens);
/* The steps "f(1) | g" of a `set` or `filter` block, applied to its text: a POSTFIX whose kids[0]
 * is NULL. piped: the first filter has its "|" too; without any the result is an empty postfix. */
tmpl_node *oct_tmpl_parse_filters(tmpl_compiler *k, bool piped);
/* Statements up to the end of the template. */
tmpl_node *oct_tmpl_parse(tmpl_compiler *k);

tmpl_node *oct_tmpl_node(tmpl_compiler *k, tmpl_node_kind kind, uint32_t line);
bool oct_tmpl_node_add(tmpl_compiler *k, tmpl_node *n, tmpl_node *kid, uint8_t op, oct_str name);
bool oct_tmpl_enter(tmpl_compiler *k); /* one level of nesting more; undo with nesting-- */
bool oct_tmpl_is_op(const tmpl_compiler *k, uint8_t op);
bool oct_tmpl_is_name(const tmpl_compiler *k, const char *name);
bool oct_tmpl_skip_op(tmpl_compiler *k, uint8_t op);
bool oct_tmpl_skip_name(tmpl_compiler *k, const char *name);
bool oct_tmpl_expect_op(tmpl_compiler *k, uint8_t op);
void *oct_tmpl_unexpected(tmpl_compiler *k, const char *want);

/* True when the tree reads the variable name anywhere. */
bool oct_tmpl_reads(const tmpl_node *n, const char *name);
oct_template_content oct_tmpl_scan_content(const tmpl_node *root);
bool oct_tmpl_scan_short_ids(const tmpl_node *root);

struct oct_template {
    const oct_allocator *mem;
    oct_arena arena;
    _Atomic uint32_t refs;
    _Atomic bool args_as_text; /* learnt: fails on tool-call arguments that are objects */
    tmpl_node *root;
    oct_template_content content;
    bool short_ids;
};

/* ---- one render ---- */

struct tmpl_ctx {
    const oct_template *t;
    const oct_template_input *in;
    oct_arena arena;
    uint64_t steps_left;
    size_t max_output_bytes;
    oct_buf *out; /* everything printed; captures take their part off its end */
    size_t out_start;
    tmpl_scope *scope;
    const char *stack_base;
    uint32_t macro_depth, line;
    oct_err *err;
    oct_status status;
    bool type_error; /* the failure was about types: see text/chat.c */
};

/* Render that also tells whether a failure was about types (for the arguments-as-text retry). */
oct_status oct_tmpl_render(const oct_template *t, const oct_template_input *in,
                           const oct_template_limits *limits, oct_buf *out, bool *type_error,
                           oct_err *err);

bool oct_tmpl_fail(tmpl_ctx *c, const char *fmt, ...) OCT_PRINTF(2, 3);
bool oct_tmpl_fail_type(tmpl_ctx *c, const char *fmt, ...) OCT_PRINTF(2, 3);
bool oct_tmpl_fail_undef(tmpl_ctx *c, tmpl_val undef);
bool oct_tmpl_raise(tmpl_ctx *c, oct_str text); /* the text as it is */
bool oct_tmpl_limit(tmpl_ctx *c);               /* "template limit exceeded" */
bool oct_tmpl_step(tmpl_ctx *c, uint64_t n);
bool oct_tmpl_work(tmpl_ctx *c, uint64_t bytes); /* a step for each 512 bytes */
bool oct_tmpl_deep(tmpl_ctx *c);                 /* false when the stack is used up */
void *oct_tmpl_alloc(tmpl_ctx *c, size_t n, size_t size);

/* Runs a filter or test by name on values (map, select). */
const tmpl_filter *oct_tmpl_find_filter(oct_str name);
const tmpl_test *oct_tmpl_find_test(oct_str name);
const tmpl_func *oct_tmpl_find_func(oct_str name);
const tmpl_filter *oct_tmpl_find_method(tmpl_kind kind, oct_str name);

/* Sorts arguments into vals[n] by the names in spec ("sep,attribute"); missing ones are absent.
 * The first n_must have to be there. */
bool oct_tmpl_bind(tmpl_ctx *c, const tmpl_args *a, const char *what, const char *spec,
                   uint32_t n_must, tmpl_val *vals);

/* template_eval.c, template_exec.c */
bool oct_tmpl_eval(tmpl_ctx *c, const tmpl_node *n, tmpl_val *out);
bool oct_tmpl_postfix(tmpl_ctx *c, const tmpl_node *n, uint32_t from, tmpl_val *v);
bool oct_tmpl_args(tmpl_ctx *c, const tmpl_node *n, tmpl_args *out);
bool oct_tmpl_call(tmpl_ctx *c, tmpl_val fn, const tmpl_args *a, tmpl_val *out);
bool oct_tmpl_call_macro(tmpl_ctx *c, const tmpl_macro *m, const tmpl_args *a, tmpl_val *out);
bool oct_tmpl_exec(tmpl_ctx *c, const tmpl_node *n);
bool oct_tmpl_attr(tmpl_ctx *c, tmpl_val obj, oct_str name, tmpl_val *out);
bool oct_tmpl_item(tmpl_ctx *c, tmpl_val obj, tmpl_val key, tmpl_val *out);
bool oct_tmpl_slice(tmpl_ctx *c, tmpl_val obj, const tmpl_val part[3], tmpl_val *out);
bool oct_tmpl_arith(tmpl_ctx *c, uint8_t op, tmpl_val a, tmpl_val b, tmpl_val *out);
bool oct_tmpl_compare_op(tmpl_ctx *c, uint8_t op, tmpl_val a, tmpl_val b, bool *out);

/* template_value.c */
static inline tmpl_val tmpl_none(void) { return (tmpl_val){.kind = TMPL_NONE}; }
static inline tmpl_val tmpl_bool(bool b) { return (tmpl_val){.kind = TMPL_BOOL, .u.b = b}; }
static inline tmpl_val tmpl_int(int64_t i) { return (tmpl_val){.kind = TMPL_INT, .u.i = i}; }
static inline tmpl_val tmpl_float(double f) { return (tmpl_val){.kind = TMPL_FLOAT, .u.f = f}; }
static inline oct_str tmpl_strv(tmpl_val v) { return (oct_str){v.u.s, v.len}; }
static inline bool tmpl_is_num(tmpl_val v) {
    return v.kind == TMPL_INT || v.kind == TMPL_FLOAT || v.kind == TMPL_BOOL;
}
static inline bool tmpl_is_seq(tmpl_val v) { return v.kind == TMPL_LIST || v.kind == TMPL_TUPLE; }
/* An int or bool as its number. */
static inline bool tmpl_as_int(tmpl_val v, int64_t *out) {
    if (v.kind == TMPL_INT) return (*out = v.u.i), true;
    if (v.kind == TMPL_BOOL) return (*out = v.u.b), true;
    return false;
}
static inline double tmpl_as_f64(tmpl_val v) {
    return v.kind == TMPL_FLOAT ? v.u.f : v.kind == TMPL_INT ? (double)v.u.i : (double)v.u.b;
}

tmpl_val oct_tmpl_str(oct_str s); /* borrows; s.len at most UINT32_MAX */
tmpl_val oct_tmpl_cstr(const char *s);
bool oct_tmpl_str_copy(tmpl_ctx *c, oct_str s, tmpl_val *out);
bool oct_tmpl_undef(tmpl_ctx *c, oct_str name, tmpl_val owner, tmpl_val *out);
bool oct_tmpl_undef_why(tmpl_ctx *c, const char *why, tmpl_val *out);
bool oct_tmpl_list_new(tmpl_ctx *c, uint32_t cap, tmpl_kind kind, tmpl_val *out);
bool oct_tmpl_list_add(tmpl_ctx *c, tmpl_list *l, tmpl_val v);
bool oct_tmpl_pair(tmpl_ctx *c, tmpl_val a, tmpl_val b, tmpl_val *out); /* a 2-tuple */
bool oct_tmpl_dict_new(tmpl_ctx *c, tmpl_kind kind, tmpl_val *out);
bool oct_tmpl_dict_set(tmpl_ctx *c, tmpl_dict *d, tmpl_val key, tmpl_val v);
/* NULL when it is not there. A key that cannot be one (a list) is not there either. */
tmpl_val *oct_tmpl_dict_get(const tmpl_dict *d, tmpl_val key);
bool oct_tmpl_hashable(tmpl_val key);
bool oct_tmpl_truth(tmpl_val v);
/* Equality and order as in Python. Both fail on values nested too deeply, less also on types that
 * have no order. */
bool oct_tmpl_equal(tmpl_ctx *c, tmpl_val a, tmpl_val b, bool *out);
bool oct_tmpl_less(tmpl_ctx *c, tmpl_val a, tmpl_val b, const char *sign, bool *out);
/* What a for loop would see, as an array. */
bool oct_tmpl_iterate(tmpl_ctx *c, tmpl_val v, tmpl_list *out);
bool oct_tmpl_from_json(tmpl_ctx *c, const json_t *j, uint32_t depth, tmpl_val *out);
const char *oct_tmpl_type_name(tmpl_val v); /* Python's: "str", "NoneType" */

/* template_unicode.c: strings as code points */
uint32_t oct_tmpl_count(tmpl_val s);                  /* code points */
uint32_t oct_tmpl_offset(tmpl_val s, uint32_t point); /* byte offset of a code point */
bool oct_tmpl_is_space(uint32_t point);
bool oct_tmpl_in_name(uint32_t point, bool first); /* what a name may begin with or go on with */
oct_str oct_tmpl_strip(oct_str s, const oct_str *chars, bool left, bool right);
typedef enum { TMPL_UPPER, TMPL_LOWER, TMPL_TITLE, TMPL_TITLE_WORDS, TMPL_CAPITALIZE } tmpl_case;
bool oct_tmpl_recase(tmpl_ctx *c, tmpl_val s, tmpl_case how, tmpl_val *out);
bool oct_tmpl_printable(uint32_t point);

/* template_print.c: a string being built in the arena */
typedef struct tmpl_text {
    tmpl_ctx *c;
    char *data;
    size_t len, cap;
    bool failed; /* the context holds the reason */
} tmpl_text;

void oct_tmpl_text_add(tmpl_text *t, oct_str s);
void oct_tmpl_text_cstr(tmpl_text *t, const char *s);
void oct_tmpl_text_pad(tmpl_text *t, char ch, size_t n);
bool oct_tmpl_text_done(tmpl_text *t, tmpl_val *out);
void oct_tmpl_text_str(tmpl_text *t, tmpl_val v); /* as str() */
void oct_tmpl_text_repr(tmpl_text *t, tmpl_val v, uint32_t depth);
bool oct_tmpl_to_str(tmpl_ctx *c, tmpl_val v, tmpl_val *out); /* a string stays what it is */
bool oct_tmpl_escape(tmpl_ctx *c, tmpl_val v, tmpl_val *out); /* & < > ' " for markup */

/* template_format.c: "%s" % x and "{}".format(x) */
bool oct_tmpl_percent(tmpl_ctx *c, tmpl_val fmt, tmpl_val arg, tmpl_val *out);
bool oct_tmpl_format(tmpl_ctx *c, tmpl_val fmt, const tmpl_args *a, tmpl_val *out);

/* template_tojson.c */
typedef struct tmpl_json_style {
    oct_str item_sep, key_sep;
    bool ensure_ascii, sort_keys, pretty;
    oct_str indent; /* of one level, with pretty */
} tmpl_json_style;
bool oct_tmpl_tojson(tmpl_ctx *c, tmpl_val v, const tmpl_json_style *style, tmpl_val *out);

/* template_strings.c: methods of strings, ends with a NULL name. max < 0: all of them */
extern const tmpl_filter oct_tmpl_str_methods[];
bool oct_tmpl_str_replace(tmpl_ctx *c, tmpl_val s, oct_str from, oct_str to, int64_t max,
                          tmpl_val *out);
bool oct_tmpl_splitlines(tmpl_ctx *c, tmpl_val s, bool keep, tmpl_list *to);

/* template_seq.c: filters on sequences, ends with a NULL name. sort is stable and orders vals by
 * keys, both [n]. */
extern const tmpl_filter oct_tmpl_seq_filters[];
/* An argument that Python reads as an integer and uses as yes or no (reverse=); absent: no. */
bool oct_tmpl_flag(tmpl_ctx *c, tmpl_val v, bool *out);
bool oct_tmpl_sort(tmpl_ctx *c, tmpl_val *keys, tmpl_val *vals, uint32_t n, bool reverse);

#endif
