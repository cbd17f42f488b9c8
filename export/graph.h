/* A graph of ONNX operators in memory, before it has names and bytes. */
#ifndef EXPORT_GRAPH_H
#define EXPORT_GRAPH_H

#include "export/wire.h"
#include "ir/ir.h"

typedef struct og_graph og_graph_t;
typedef struct og_node og_node_t;

typedef struct og_tensor { /* an initialiser */
  unsigned rank;
  const int64_t *dims;
  const void *bytes;
  uint64_t size;
  const char *const *strings; /* of a string tensor, else NULL */
  uint64_t offset;            /* in the file of external data */
  bool external;
} og_tensor_t;

typedef struct og_value {
  const char *name; /* given last, see og_name_all */
  const char *hint; /* what it should be named like, or NULL */
  dtype_t dtype;
  ir_type_t type;    /* of inputs and outputs of graphs */
  og_graph_t *graph; /* that defines it */
  og_node_t *node;   /* whose result it is, or NULL */
  og_tensor_t *tensor;
  bool fixed, output, used;
  struct og_value *next; /* initialisers of a graph, in order */
} og_value_t;

typedef enum { OG_INT, OG_FLOAT, OG_STR, OG_INTS, OG_GRAPH, OG_TYPE } og_kind_t;

typedef struct og_attr {
  const char *name;
  og_kind_t kind;
  int64_t i;
  double f;
  const char *s;
  unsigned n;
  const int64_t *ints;
  og_graph_t *graph;
  const ir_type_t *type;
  struct og_attr *next;
} og_attr_t;

struct og_node {
  const char *op_type;
  const char *hint, *name;
  unsigned n_in, n_out;
  og_value_t **in; /* NULL: left out */
  og_value_t *out;
  og_attr_t *first_attr, *last_attr;
  bool live;
  og_node_t *next, *prev;
};

/* A size that a value tells, or is. */
typedef struct og_symbol {
  const expr_symbol_t *symbol;
  og_value_t *value;
  int axis; /* of value's shape; -1: value is i64[1] of the size itself */
  struct og_symbol *next;
} og_symbol_t;

typedef struct og_memo { /* what has been made of a key in this graph */
  uint64_t hash;
  const void *key;
  og_value_t *value;
} og_memo_t;

struct og_graph {
  arena_t *arena;
  og_graph_t *parent;
  og_node_t *first, *last;
  og_value_t **inputs, **outputs;
  unsigned n_in, n_out, in_room, out_room;
  og_value_t *first_tensor, *last_tensor;
  og_symbol_t *symbols;
  og_memo_t *memos; /* open addressing; room is a power of two */
  unsigned n_memos, memos_room;
};

og_graph_t *og_graph(arena_t *arena, og_graph_t *parent);
og_value_t *og_input(og_graph_t *graph, const ir_type_t *type,
                     const char *hint);
/* Appends an output; makes it a result of a node of the graph's own that is no
 * other output, by an Identity where it is not. */
void og_output(og_graph_t *graph, og_value_t *value, const ir_type_t *type,
               const char *name);
og_node_t *og_node(og_graph_t *graph, const char *op_type, const char *hint,
                   unsigned n_in, og_value_t *const *in, unsigned n_out);
og_attr_t *og_attr(og_graph_t *graph, og_node_t *node, const char *name,
                   og_kind_t kind);
og_value_t *og_tensor(og_graph_t *graph, dtype_t dtype, unsigned rank,
                      const int64_t *dims, const void *bytes, uint64_t size);
og_symbol_t *og_define(og_graph_t *graph, const expr_symbol_t *symbol,
                       og_value_t *value, int axis);
/* In this graph or around it; NULL. */
const og_symbol_t *og_find_symbol(const og_graph_t *graph,
                                  const expr_symbol_t *symbol);
og_memo_t *og_memo(og_graph_t *graph, uint64_t hash, const void *key,
                   bool (*same)(const void *key, const og_memo_t *memo));

/* Leaves out what no output needs. */
void og_prune(og_graph_t *graph);
/* Names every value and node, inputs and outputs first. */
void og_name_all(og_graph_t *graph);

#endif
