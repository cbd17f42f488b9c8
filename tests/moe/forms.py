"""One layer in many forms: the same router, experts and weights, spelled differently.

make_model(form, layer) writes the layer (a Layer) in one of FORMS.
"""
import dataclasses

import numpy as np

import layers
from graph import F32, Graph

FORMS = {
    "dense": {"form": "dense", "dispatch": "chain", "mask": "mul", "combine": "add",
              "gates": "scatter"},
    "dense_masked": {"form": "dense", "dispatch": "chain", "mask": "where", "combine": "stack",
                     "gates": "one_hot_sum"},
    "dense_batched": {"form": "dense", "dispatch": "batched", "combine": "reduce",
                      "gates": "scatter"},
    "dense_tiled": {"form": "dense", "dispatch": "tile", "combine": "einsum",
                    "gates": "equal_product"},
    "gathered": {"form": "gathered", "dispatch": "slots", "by_nd": False, "combine": "reduce"},
    "gathered_flat": {"form": "gathered", "dispatch": "flat", "by_nd": True,
                      "combine": "einsum"},
    "looped": {"form": "loop", "dispatch": "equal", "rows": "gather", "weights": "flat",
               "combine": "scatter_nd"},
    "looped_any": {"form": "loop", "dispatch": "any", "rows": "nd", "weights": "nd",
                   "combine": "scatter_elements", "gates": "scatter"},
    "looped_one_hot": {"form": "loop", "dispatch": "one_hot", "rows": "gather", "weights": "nd",
                       "combine": "sum"},
    "grouped": {"form": "grouped", "histogram": "scatter", "rows": "gather", "ranges": "slice",
                "inverse": "scatter", "combine": "reduce"},
    "grouped_split": {"form": "grouped", "histogram": "equal", "rows": "nd", "ranges": "split",
                      "inverse": "sort", "combine": "scatter_nd"},
    "grouped_ranges": {"form": "grouped", "histogram": "one_hot", "rows": "gather",
                       "ranges": "range", "inverse": "sort", "combine": "matmul"},
}


@dataclasses.dataclass
class Layer:
    experts: int = 8
    k: int = 2
    width: int = 8
    inside: int = 12
    kind: str = "gated"
    act: str = "silu"
    router: str = "softmax_topk_renormalised"
    seed: int = 1


def make_model(form, layer):
    """Router and weights are drawn before what differs: the seed gives the same ones."""
    g = Graph(np.random.default_rng(layer.seed), layer.width, layer.inside)
    g.inputs.append(("x", F32, ["T", layer.width]))
    spec = {"router": layer.router, "experts": layer.experts, "k": layer.k, "kind": layer.kind,
            "act": layer.act} | FORMS[form]
    y = layers.make_layer(g, spec, "x")
    g.outputs.append((y, F32, ["T", layer.width]))
    return g.model()
