/* Graphs as bytes of a model file. */
#ifndef EXPORT_SERIALIZE_H
#define EXPORT_SERIALIZE_H

#include "export/graph.h"

typedef struct og_model {
  og_graph_t *graph;
  const char *name;
  int opset;
  const char *data_name; /* file of external data, or NULL: all inline */
} og_model_t;

/* Large initialisers as pieces of a file of their own, in *out_data. */
void og_place_external(og_graph_t *graph, pb_t *out_data);
/* The named graph as a ModelProto. */
void og_serialize(const og_model_t *model, arena_t *arena, pb_t *out);

#endif
