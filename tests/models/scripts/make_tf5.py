"""Regenerates the tf5_* cases: MoE language models of transformers 5.x exported to ONNX.

Two ways of exporting appear:
  hf     transformers.exporters.OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True))
  torch  torch.onnx.export(model, ..., dynamo=True, dynamic_shapes=...)
Every model has random weights.  Expected outputs are what the PyTorch model computes with its own
("eager") expert loop; onnxruntime only checks them.

    python make_tf5.py --out DIR [--only SUBSTRING,SUBSTRING]
"""
import argparse
import collections
import copy
import functools
import json
import os
import pathlib
import time
import traceback

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
import torch.nn.functional as F
import transformers
from onnx import numpy_helper
from transformers import DynamicCache, PreTrainedModel
from transformers.exporters import OnnxConfig, OnnxExporter
from transformers.models.llama4 import modeling_llama4
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

torch.set_num_threads(1)
TINY = dict(vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, max_position_embeddings=64, use_cache=False)
KEEP_INIT = ("A_log", "dt_bias", "conv1d", ".D", "sinks", "inv_freq")


# ---- models -------------------------------------------------------------------------------------

def randomise(model, seed=0, std=0.2, router_std=0.5):
    """Gives every weight a random value, wide enough that routing is spread over the experts."""
    gen = torch.Generator().manual_seed(seed)

    def normal(t, s):
        return (torch.randn(t.shape, generator=gen) * s).to(t.dtype)

    tensors = list(model.named_parameters()) + [(n, b) for n, b in model.named_buffers() if "bias" in n]
    with torch.no_grad():
        for name, p in tensors:
            if any(k in name for k in KEEP_INIT) or not p.is_floating_point():
                continue
            if "bias" in name:
                p.copy_(normal(p, 0.1))
            elif p.ndim < 2:
                p.copy_(normal(p, 0.1) + 1)
            elif "embed" in name:
                p.copy_(normal(p, 1.0))
            else:
                router = p.ndim == 2 and any(k in name for k in ("gate.weight", "router", "classifier"))
                p.copy_(normal(p, router_std if router else std))
    return model.eval()


class Block(PreTrainedModel):
    """The MoE block alone: hidden states in, hidden states out."""
    config_class = transformers.PreTrainedConfig
    main_input_name = "hidden_states"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True
    _can_set_experts_implementation = classmethod(lambda cls: True)

    def __init__(self, config, block):
        super().__init__(config)
        self.block = block

    def forward(self, hidden_states):
        out = self.block(hidden_states)
        return out[0] if isinstance(out, tuple) else out


def set_experts(model, impl):
    """Chooses the expert implementation of all sub-configs (None leaves the library's choice)."""
    if impl is None:
        return
    for m in model.modules():
        if hasattr(m, "config"):
            m.config._experts_implementation_internal = impl
            m.config._experts_implementation = impl


class EagerExperts:
    """Context: run a model with its own Python loop over experts."""

    def __init__(self, model):
        self.cfgs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()

    def __enter__(self):
        self.old = [getattr(c, "_experts_implementation", None) for c in self.cfgs]
        for c in self.cfgs:
            c._experts_implementation = "eager"

    def __exit__(self, *_):
        for c, o in zip(self.cfgs, self.old):
            c._experts_implementation = o


class RouterLog:
    """Records the expert choices of eager runs by watching topk, max and argmax over an axis of E entries."""

    def __init__(self, experts, k):
        self.experts, self.k, self.calls = experts, k, []

    def seen(self, x, k, idx):
        if x.shape[-1] == self.experts:
            s = x.float().sort(-1, descending=True).values
            self.calls.append((idx.reshape(-1, k), (s[..., k - 1] - s[..., k]).min().item() if k < self.experts else 1.0))

    def __enter__(self):
        self.saved = [(o, n, getattr(o, n)) for o in (torch, torch.Tensor) for n in ("topk", "max", "argmax")]
        topk, amax, argmax = (f for _, _, f in self.saved[:3])

        def my_topk(x, k, *a, **kw):
            r = topk(x, k, *a, **kw)
            if k == self.k:
                self.seen(x, k, r[1])
            return r

        def my_max(x, *a, **kw):
            r = amax(x, *a, **kw)
            if (a or kw) and (a[0] if a else kw.get("dim")) == -1 and x.dtype.is_floating_point:
                self.seen(x, 1, r[1])
            return r

        def my_argmax(x, *a, **kw):
            r = argmax(x, *a, **kw)
            self.seen(x, 1, r)
            return r

        for owner in (torch, torch.Tensor):
            owner.topk, owner.max, owner.argmax = my_topk, my_max, my_argmax
        return self

    def __exit__(self, *_):
        for owner, name, f in self.saved:
            setattr(owner, name, f)


# ---- expert loops that can be exported -----------------------------------------------------------

def loop_experts(self, hidden_states, top_k_index, top_k_weights, expert=None, one_hot=False):
    """The library's loop over experts with a fixed trip count (its own stops at the experts hit, which cannot
    be exported)."""
    x = hidden_states.reshape(-1, hidden_states.shape[-1])
    experts = getattr(self, "total_experts", None) or self.num_experts
    mask = top_k_index if one_hot else F.one_hot(top_k_index, experts)
    mask = mask.permute(2, 1, 0)
    out = torch.zeros_like(x)
    for e in range(experts):
        slot, token = torch.where(mask[e])
        y = (expert or gated_expert)(self, e, x[token])
        out = out.index_add(0, token, y * top_k_weights[token, slot, None])
    return out.view(hidden_states.shape)


def dense_experts(self, hidden_states, top_k_index, top_k_weights):
    """Every expert on every token, weighted by the routing weight or 0."""
    out = torch.zeros_like(hidden_states)
    for e in range(self.num_experts):
        weight = torch.where(top_k_index == e, top_k_weights, 0.0).sum(-1, keepdim=True)
        out = out + gated_expert(self, e, hidden_states) * weight
    return out


def gated_expert(self, e, x):
    return F.linear(self._apply_gate(F.linear(x, self.gate_up_proj[e])), self.down_proj[e])


ALL_EXPERTS_FUNCTIONS.register("fixed_loop", loop_experts)
ALL_EXPERTS_FUNCTIONS.register("dense", dense_experts)


def static_loop(model, class_name, expert, one_hot=False):
    """A copy of the model whose modules of the named class use loop_experts."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module).__name__ == class_name:
            module.forward = functools.partial(loop_experts, module, expert=expert, one_hot=one_hot)
    return model


# ---- export -------------------------------------------------------------------------------------

def export(model, sample, how, dynamic_shapes=None, **opts):
    sample = copy.deepcopy(sample)
    if how == "hf":
        shapes = dict(dynamic_shapes=dynamic_shapes) if dynamic_shapes else {}
        flags = dict(use_cache="past_key_values" in sample) if not isinstance(model, Block) else {}
        return OnnxExporter().export(model, {**sample, **flags}, config=OnnxConfig(dynamic=True, **shapes, **opts)).program
    names = dict(input_names=list(sample), output_names=["output" if isinstance(model, Block) else "logits"])
    if not isinstance(model, Block):
        model = LogitsOnly(model).eval()
    return torch.onnx.export(model, (), kwargs=sample, dynamo=True, dynamic_shapes=dynamic_shapes, **names, **opts).model


class LogitsOnly(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids=input_ids, use_cache=False).logits


def to_proto(program, keep_metadata=False):
    proto = onnx_ir.to_proto(program)
    graphs = [proto.graph]
    domains = {o.domain for o in proto.opset_import}
    for domain in sorted({n.domain for n in all_nodes(proto)} - domains - {""}):
        proto.opset_import.append(onnx.helper.make_opsetid(domain, 1))  # OnnxExporter forgets com.microsoft
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    for n in list(all_nodes(proto)):
        for p in list(n.metadata_props):
            if not keep_metadata or p.key.endswith(("stack_trace", "class_hierarchy")):
                n.metadata_props.remove(p)
        n.doc_string = ""
    for g in graphs + list(proto.functions):
        for v in list(g.value_info) + list(getattr(g, "initializer", [])):
            del v.metadata_props[:]
            v.doc_string = ""
    return proto


def all_nodes(proto):
    def walk(nodes):
        for n in nodes:
            yield n
            for a in n.attribute:
                for g in ([a.g] if a.type == onnx.AttributeProto.GRAPH else a.graphs):
                    yield from walk(g.node)
    yield from walk(proto.graph.node)
    for f in proto.functions:
        yield from walk(f.node)


# ---- references and cases -----------------------------------------------------------------------

def flat(out):
    """Tensors of a model output, in the order the exporter gives them."""
    if isinstance(out, torch.Tensor):
        return [out]
    if isinstance(out, DynamicCache):
        return [t for layer in out.layers for t in (layer.keys, layer.values)]
    if isinstance(out, dict):
        out = list(out.values())
    return [t for o in out if o is not None for t in flat(o)]


def run_eager(model, inputs, log=None):
    inputs = copy.deepcopy(inputs)
    kw = {} if isinstance(model, Block) else dict(use_cache="past_key_values" in inputs)
    with torch.no_grad(), EagerExperts(model):
        if log is None:
            return [t.clone() for t in flat(model(**inputs, **kw))]
        with log:
            return [t.clone() for t in flat(model(**inputs, **kw))]


def perturbed(model, inputs):
    """A copy of model and inputs with the data entering the first layer changed by 1e-6 relative."""
    model, inputs = copy.deepcopy(model), copy.deepcopy(inputs)
    torch.manual_seed(7)
    with torch.no_grad():
        if "hidden_states" in inputs:
            inputs["hidden_states"] *= 1 + 1e-6 * torch.randn_like(inputs["hidden_states"])
        else:
            w = model.get_input_embeddings().weight
            w *= 1 + 1e-6 * torch.randn_like(w)
    return model, inputs


def to_numpy(t):
    t = t.detach()
    if t.dtype == torch.bfloat16:
        import ml_dtypes
        return t.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return t.contiguous().numpy()


def diff(a, b):
    return max((np.abs(x.astype(np.float64) - y.astype(np.float64)).max() for x, y in zip(a, b)), default=0.0)


def ladder(x):
    for e in range(-7, 6):
        for m in (1, 2, 3, 5, 7):
            if m * 10.0 ** e >= x:
                return float(f"{m}e{e}")


def run_ort(path, proto, sets):
    worst_abs = worst_rel = 0.0
    try:
        opts = onnxruntime.SessionOptions()
        opts.intra_op_num_threads = 1
        opts.log_severity_level = 3
        sess = onnxruntime.InferenceSession(str(path), opts, providers=["CPUExecutionProvider"])
        names = [i.name for i in proto.graph.input]
        for inputs, outputs in sets:
            if any(str(a.dtype) == "bfloat16" for a in list(inputs) + list(outputs)):
                return dict(runs=None, error="loads; not run: bfloat16 arrays are not accepted by its Python API")
            got = sess.run(None, dict(zip(names, inputs)))
            for g, o in zip(got, outputs):
                if g.shape != o.shape:
                    return dict(runs=True, error=f"shape {g.shape} instead of {o.shape}")
                d = np.abs(g.astype(np.float64) - o.astype(np.float64))
                if not d.size:
                    continue
                worst_abs = max(worst_abs, float(d.max()))
                worst_rel = max(worst_rel, float((d / np.maximum(np.abs(o.astype(np.float64)), 1e-3)).max()))
        return dict(runs=True, max_abs_err=worst_abs, max_rel_err=worst_rel)
    except Exception as e:
        return dict(runs=False, error=" ".join(str(e).split())[:300])


def lm_inputs(shape, seed, vocab=97):
    gen = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(3, vocab, shape, generator=gen)}


def hidden_inputs(shape, seed, hidden=32):
    gen = torch.Generator().manual_seed(seed)
    return {"hidden_states": torch.randn(*shape, hidden, generator=gen)}


def choose_data(model, shapes, make, experts, k, need_all=True, min_gap=1e-4, agree=None):
    """Seeds whose routing is away from ties; together they reach every expert, and one set leaves some unused."""
    for base in range(60):
        seen, low, sets, same = collections.defaultdict(set), [], [], True
        for i, shape in enumerate(shapes):
            inputs = make(shape, 1000 * base + i)
            log = RouterLog(experts, k)
            outputs = run_eager(model, inputs, log)
            if agree is not None:
                other = RouterLog(experts, k)
                run_eager(agree, inputs, other)
                same &= all(torch.equal(a[0].sort(-1).values, b[0].sort(-1).values)
                            for a, b in zip(log.calls, other.calls))
            for layer, (idx, gap) in enumerate(log.calls):
                seen[layer] |= set(idx.flatten().tolist())
                low.append(gap)
            sets.append((inputs, outputs))
        covered = all(len(s) == experts for s in seen.values()) and seen
        if same and (covered or not need_all) and (not low or min(low) > min_gap):
            return sets, dict(router_calls=len(seen), experts_hit=[len(s) for s in seen.values()],
                              min_gap=min(low) if low else None)
    raise RuntimeError(f"no data found: hit {[len(s) for s in seen.values()]}, gap {min(low) if low else None}")


def write_case(root, name, family, form, why, model, program, sets, experts, k, layers, source, note="",
               expect="recognise", keep_metadata=False, upcast=None, tolerance=None, extra=None):
    path = pathlib.Path(root) / name
    path.mkdir(parents=True, exist_ok=True)
    proto = to_proto(program, keep_metadata)
    (path / "model.onnx").write_bytes(proto.SerializeToString())
    try:
        onnx.checker.check_model(str(path / "model.onnx"), full_check=True)
        checked = "full"
    except Exception as e:
        checked = "basic (shape inference: " + " ".join(str(e).split())[:160] + ")"
        try:
            onnx.checker.check_model(str(path / "model.onnx"))
        except onnx.checker.ValidationError as e:
            if form != "a" and "contrib" not in why:
                raise
            checked = "fails: " + " ".join(str(e).split())[:200]

    arrays = []
    for i, (inputs, outputs) in enumerate(sets):
        ins, outs = [to_numpy(t) for t in flat(dict(inputs))], [to_numpy(t) for t in outputs]
        if len(ins) > len(proto.graph.input):
            raise RuntimeError(f"{len(ins)} inputs, graph has {[v.name for v in proto.graph.input]}")
        if len(outs) < len(proto.graph.output):
            raise RuntimeError(f"{len(outs)} outputs, graph has {[v.name for v in proto.graph.output]}")
        outs = outs[:len(proto.graph.output)]
        folder = path / f"test_data_set_{i}"
        folder.mkdir(exist_ok=True)
        for kind, values, infos in (("input", ins, proto.graph.input), ("output", outs, proto.graph.output)):
            for j, (a, info) in enumerate(zip(values, infos)):
                t = numpy_helper.from_array(np.ascontiguousarray(a), info.name)
                assert t.data_type == info.type.tensor_type.elem_type, (kind, info.name)
                (folder / f"{kind}_{j}.pb").write_bytes(t.SerializeToString())
        arrays.append((ins, outs))

    noise = 0.0
    for inputs, outputs in sets:
        reference = [to_numpy(t) for t in outputs]
        if upcast is not None:
            noise = max(noise, diff([to_numpy(t.float()) for t in run_eager(upcast, inputs)],
                                    [to_numpy(t.float()) for t in outputs]))
        else:
            m2, i2 = perturbed(model, inputs)
            noise = max(noise, diff([to_numpy(t) for t in run_eager(m2, i2)], reference))
    ort = run_ort(path / "model.onnx", proto, arrays)
    rtol, least = tolerance or (1e-4, 1e-5)
    atol = ladder(max(3 * noise, 3.2 * ort.get("max_abs_err", 0.0), least))
    if ort.get("max_abs_err", 0) * 3 > atol + rtol:
        print("   !! onnxruntime disagrees", ort)
    nodes = list(all_nodes(proto))
    hist = collections.Counter(f"{n.domain}::{n.op_type}" for n in nodes)
    case = dict(name=name, family=family, form=form, source=source,
                moe_layers=[dict(experts=experts, k=k, note=note) for _ in range(layers)], expect=expect, why=why,
                reference="PyTorch model, eager expert loop, " + ("same dtype as the graph; tolerance from the float32 model"
                                                                 if upcast is not None else "float32"),
                rtol=rtol, atol=atol, noise=noise, checker=checked, ort=ort, ops=dict(sorted(hist.items())),
                opset={o.domain: o.version for o in proto.opset_import}, ir_version=proto.ir_version, nodes=len(nodes),
                bytes=(path / "model.onnx").stat().st_size, **(extra or {}))
    (path / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    return case


VERSIONS = f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}"
HF_CALL = "transformers.exporters.OnnxExporter().export(model, {%s}, OnnxConfig(dynamic=True%s))"
TORCH_CALL = "torch.onnx.export(model, dynamo=True, dynamic_shapes={%s: {0: Dim, 1: Dim}}%s)"


class Maker:
    """Runs and times cases; one failing case does not stop the others."""

    def __init__(self, root, only=""):
        self.root, self.only, self.failed = root, only, []

    def case(self, name, family, build, experts, k, layers, form="c2", impl=None, how="hf", why="", note="",
             kind="lm", shapes=((1, 1), (1, 3), (2, 17)), need_all=True, min_gap=1e-4, dtype=None, options=None,
             keep_metadata=False, expect="recognise", make=None, sample_shape=(2, 7), sample=None, tolerance=None,
             sets=None, export_patch=None, dynamic_shapes=None, source_extra="", classes=None):
        if not any(o in name for o in self.only.split(",")):
            return
        start, options = time.time(), options or {}
        try:
            model, upcast = build(), None
            if dtype is not None:
                model = model.to(dtype)
                upcast = copy.deepcopy(model).float()
            set_experts(model, impl)
            make = make or (lm_inputs if kind == "lm" else hidden_inputs)
            data, stats = (sets(model), {}) if sets else choose_data(model, shapes, make, classes or experts, k, need_all, min_gap, upcast)
            sample = sample(model) if sample else make(sample_shape, 1)
            key = list(sample)[0]
            if how == "torch" and dynamic_shapes is None:
                dynamic_shapes = {key: {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq")}}
            used = export_patch(model) if export_patch else model
            program = export(used, sample, how, dynamic_shapes, **options)
            opts = "".join(f", {a}={b!r}" for a, b in options.items())
            call = HF_CALL % (", ".join(sample), opts) if how == "hf" else TORCH_CALL % (key, opts)
            cls = type(model.block if isinstance(model, Block) else model).__name__
            source = f"{VERSIONS}; {cls}, experts implementation {impl or 'library default'}; {call}{source_extra}"
            case = write_case(self.root, name, family, form, why, model, program, data, experts, k, layers, source, note,
                              expect, keep_metadata, upcast, tolerance, extra=dict(data=stats) if stats else None)
            o = case["ort"]
            print(f"{name}: form {form} nodes {case['nodes']} bytes {case['bytes']} E{experts}k{k} opset {case['opset']} "
                  f"ort {o} atol {case['atol']} noise {case['noise']:.2g} {stats} {time.time() - start:.0f}s", flush=True)
        except Exception as e:
            self.failed.append((name, repr(e)[:300]))
            print(f"{name}: FAILED {type(e).__name__}: {' '.join(str(e).split())[:600]}", flush=True)
            if os.environ.get("TRACE"):
                traceback.print_exc()


# ---- the visible families -----------------------------------------------------------------------

def lm(config_name, model_name, seed=0, std=0.2, router_std=0.5, tweak=None, **changes):
    def build():
        torch.manual_seed(seed)
        cls = getattr(transformers, config_name)
        config = cls(**{**TINY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **changes})
        model = randomise(getattr(transformers, model_name)(config), seed, std, router_std)
        if tweak:
            with torch.no_grad():
                tweak(model)
        return model
    return build


def block_of(build, find, layer=0):
    """The MoE block of the given decoder layer of a language model."""
    def make():
        model = build()
        return Block(model.config, find(model.model.layers[layer])).eval()
    return make


mixtral = lm("MixtralConfig", "MixtralForCausalLM", num_local_experts=8, num_experts_per_tok=2)
qwen3 = lm("Qwen3MoeConfig", "Qwen3MoeForCausalLM", num_experts=8, num_experts_per_tok=3, moe_intermediate_size=40,
           norm_topk_prob=True, decoder_sparse_step=1)
gpt_oss = lm("GptOssConfig", "GptOssForCausalLM", num_local_experts=6, num_experts_per_tok=2, sliding_window=8,
             layer_types=["sliding_attention", "full_attention"], router_std=1.0)
mlp = lambda layer: layer.mlp


def past_sets(model):
    """Decode and chunked prefill with a key/value cache of 5, 4 and 9 positions."""
    for base in range(60):
        seen, gaps, sets = collections.defaultdict(set), [], []
        for i, (batch, past, new) in enumerate(((1, 5, 1), (2, 4, 3), (2, 9, 7))):
            inputs, log = past_inputs(model, batch, past, new, 50 * base + i), RouterLog(8, 2)
            sets.append((inputs, run_eager(model, inputs, log)))
            for layer, (idx, gap) in enumerate(log.calls):
                seen[layer] |= set(idx.flatten().tolist())
                gaps.append(gap)
        if min(gaps) > 1e-4 and all(len(s) == 8 for s in seen.values()):
            return sets


def past_inputs(model, batch, past, new, seed):
    ids = lm_inputs((batch, past + new), seed)["input_ids"]
    with torch.no_grad():
        cache = model(input_ids=ids[:, :past], use_cache=True).past_key_values
    return {"input_ids": ids[:, past:], "attention_mask": torch.ones(batch, past + new, dtype=torch.int64),
            "past_key_values": cache}


def switch_loop(model):
    model = static_loop(model, "SwitchTransformersExperts", lambda m, e, x: m[f"expert_{e}"](x), one_hot=True)
    for module in model.modules():
        if type(module).__name__ == "SwitchTransformersTop1Router":
            module.classifier.to = functools.partial(lambda linear, dtype: linear, module.classifier)  # a no-op in float32
    return model


def llama4_real(model):
    """Rotates queries and keys with real arithmetic: the exporter has no complex Unsqueeze."""
    def rotate(x, freqs):
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = freqs.real.unsqueeze(2), freqs.imag.unsqueeze(2)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(3)

    modeling_llama4.apply_rotary_emb = lambda q, k, freqs: (rotate(q, freqs), rotate(k, freqs))
    return model


def masked_inputs(shape, seed):
    inputs = lm_inputs(shape, seed)
    mask = torch.ones(shape, dtype=torch.int64)
    if shape[0] > 1:
        mask[1, shape[1] - 3:] = 0
    return {**inputs, "attention_mask": mask}


MLA = dict(q_lora_rank=None, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, num_key_value_heads=4)
deepseek_v3 = lm("DeepseekV3Config", "DeepseekV3ForCausalLM", **MLA, n_routed_experts=16, n_group=4, topk_group=2,
                 num_experts_per_tok=3, moe_intermediate_size=24, n_shared_experts=1, first_k_dense_replace=1)
olmoe = lm("OlmoeConfig", "OlmoeForCausalLM", num_experts=8, num_experts_per_tok=3, norm_topk_prob=False, clip_qkv=4.0)
phimoe = lm("PhimoeConfig", "PhimoeForCausalLM", num_local_experts=8, num_experts_per_tok=2, router_std=0.3)
granitemoe = lm("GraniteMoeConfig", "GraniteMoeForCausalLM", num_local_experts=8, num_experts_per_tok=2,
                embedding_multiplier=2.0, logits_scaling=4.0, residual_multiplier=0.5, attention_multiplier=0.25)
LLAMA4 = dict(num_local_experts=6, intermediate_size_mlp=40, attention_chunk_size=16, interleave_moe_layer_step=1)
llama4 = lm("Llama4TextConfig", "Llama4ForCausalLM", **LLAMA4, num_experts_per_tok=1)
llama4_k2 = lm("Llama4TextConfig", "Llama4ForCausalLM", **LLAMA4, num_experts_per_tok=2)
gemma4 = lm("Gemma4TextConfig", "Gemma4ForCausalLM", enable_moe_block=True, num_experts=8, top_k_experts=2,
            moe_intermediate_size=40, hidden_size_per_layer_input=0, sliding_window=8, global_head_dim=8,
            layer_types=["sliding_attention", "full_attention"])
switch = lm("SwitchTransformersConfig", "SwitchTransformersEncoderModel", d_model=32, d_kv=8, d_ff=48, expert_capacity=4,
            num_layers=2, num_sparse_encoder_layers=1, num_heads=4, num_experts=6, is_encoder_decoder=False)


def visible(m):
    gate = "softmax over all experts, top-k, weights divided by their sum"
    m.case("tf5_mixtral", "mixtral", mixtral, 8, 2, 2, note=gate, keep_metadata=True,
           why="what OnnxExporter gives by default (grouped_mm); keeps most of the exporter's node metadata")
    m.case("tf5_mixtral_batched", "mixtral", mixtral, 8, 2, 2, form="c1", impl="batched_mm", note=gate,
           why="expert weights gathered per routed row (GatherND on a constant)")
    m.case("tf5_qwen3_moe", "qwen3_moe", qwen3, 8, 3, 2, note=gate, why="exporter default, k=3, q/k norms in attention")
    m.case("tf5_qwen3_moe_batched", "qwen3_moe", qwen3, 8, 3, 2, form="c1", impl="batched_mm", note=gate,
           why="gathered weights, k=3")
    oss = "top-k of biased logits, softmax over the selected; interleaved gate/up, clamps, biases"
    m.case("tf5_gpt_oss", "gpt_oss", gpt_oss, 6, 2, 2, note=oss, why="exporter default; transposed experts with biases")
    m.case("tf5_gpt_oss_batched", "gpt_oss", gpt_oss, 6, 2, 2, form="c1", impl="batched_mm", note=oss,
           why="gathered transposed weights and biases, slices with step 2")
    for name, build, e, k, form, impl in (
            ("tf5_mixtral_block", mixtral, 8, 2, "c2", "grouped_mm"), ("tf5_mixtral_block_batched", mixtral, 8, 2, "c1", "batched_mm"),
            ("tf5_qwen3_moe_block", qwen3, 8, 3, "c2", "grouped_mm"), ("tf5_qwen3_moe_block_batched", qwen3, 8, 3, "c1", "batched_mm"),
            ("tf5_gpt_oss_block", gpt_oss, 6, 2, "c2", "grouped_mm"), ("tf5_gpt_oss_block_batched", gpt_oss, 6, 2, "c1", "batched_mm")):
        m.case(name, name[4:].split("_block")[0], block_of(build, mlp), e, k, 1, form=form, impl=impl, kind="block",
               note=oss if "oss" in name else gate, why="MoE block alone, hidden states [batch, seq, 32] in and out")
    m.case("tf5_mixtral_block_loop", "mixtral", block_of(mixtral, mlp), 8, 2, 1, form="b", impl="fixed_loop", kind="block",
           note=gate, why="per-expert loop unrolled by the dynamo exporter: NonZero, gather, MatMuls, ScatterND add",
           source_extra="; fixed_loop is this script's")
    m.case("tf5_mixtral_block_dense", "mixtral", block_of(mixtral, mlp), 8, 2, 1, form="d1", impl="dense", kind="block",
           note=gate, why="every expert on every token times a masked weight", source_extra="; dense is this script's")
    m.case("tf5_mixtral_block_torch", "mixtral", block_of(mixtral, mlp), 8, 2, 1, form="c1", impl="batched_mm", how="torch",
           kind="block", note=gate, why="plain torch.onnx.export without transformers' exporter")
    m.case("tf5_mixtral_block_torch_unoptimised", "mixtral", block_of(mixtral, mlp), 8, 2, 1, form="c1", impl="batched_mm",
           how="torch", kind="block", note=gate, options=dict(optimize=False),
           why="optimize=False: Constant nodes, SplitToSequence, identity Transposes and one-input Max left in the graph")
    m.case("tf5_mixtral_torch", "mixtral", mixtral, 8, 2, 2, form="c1", impl="batched_mm", how="torch", note=gate,
           why="whole model through plain torch.onnx.export")


    m.case("tf5_mixtral_bf16_batched", "mixtral", mixtral, 8, 2, 2, form="c1", impl="batched_mm", dtype=torch.bfloat16, note=gate,
           tolerance=(2e-2, 1e-2), why="bfloat16 weights; router softmax in float32, cast back")
    m.case("tf5_mixtral_f16_batched", "mixtral", mixtral, 8, 2, 2, form="c1", impl="batched_mm", dtype=torch.float16, note=gate,
           tolerance=(5e-3, 1e-3), why="float16 weights; router softmax in float32, cast back")
    m.case("tf5_mixtral_past", "mixtral", mixtral, 8, 2, 2, note=gate, sets=past_sets,
           sample=lambda model: past_inputs(model, 2, 6, 3, 9), why="attention mask and key/value cache as inputs and outputs")
    m.case("tf5_deepseek_v3", "deepseek_v3", deepseek_v3, 16, 3, 1, why="group-limited sigmoid routing after one dense layer",
           note="sigmoid, + correction bias for choice only (with negatives), best 2 of 4 groups by the sum of their two best, "
                "others filled with -inf, top-k, weights / sum, * 2.5; plus a shared expert")
    m.case("tf5_olmoe", "olmoe", olmoe, 8, 3, 2, note="softmax over all, top-k, not renormalised", why="weights do not sum to 1")
    m.case("tf5_phimoe", "phimoe", phimoe, 8, 2, 2, note="SparseMixer: two rounds of max, masking and softmax", min_gap=1e-3,
           why="selection by ReduceMax/ArgMax rounds instead of TopK")
    m.case("tf5_granitemoe", "granitemoe", granitemoe, 8, 2, 2, note="top-k of logits, softmax over the selected",
           why="softmax after selection")
    m.case("tf5_llama4", "llama4", llama4, 6, 1, 2, form="d2", export_patch=llama4_real, source_extra="; rotary embedding made real by hand",
           note="sigmoid of the selected logit scales the expert INPUT; all experts computed; shared expert",
           why="dense batched MatMul over experts, weight position input")
    m.case("tf5_llama4_block_k2", "llama4", block_of(llama4_k2, lambda layer: layer.feed_forward), 6, 2, 1, form="d2",
           kind="block", note="as tf5_llama4 with k=2", why="Scatter of two logits into -inf, then sigmoid")
    m.case("tf5_gemma4", "gemma4", gemma4, 8, 2, 2, note="softmax, top-k, / sum, * per-expert scale[idx]; tanh-gelu experts; "
           "router reads the un-normalised residual; a dense MLP runs beside the experts", why="per-expert scale gathered by index")
    m.case("tf5_switch", "switch_transformers", switch, 6, 1, 1, form="e2/b", make=masked_inputs, export_patch=switch_loop, source_extra="; experts loop made static by hand",
           note="top-1, capacity 4 per sequence by CumSum over positions, dropped tokens give 0",
           why="capacity limit that drops tokens in the longest set")
    for name, build, e, k in (("mixtral", mixtral, 8, 2), ("qwen3_moe", qwen3, 8, 3), ("olmoe", olmoe, 8, 3)):
        m.case(f"tf5_{name}_block_moe_op", name, block_of(build, mlp), e, k, 1, form="a", impl="batched_mm", kind="block",
               options=dict(ort_fusions="cuda"), why="the exporter's fusion to com.microsoft.MoE with FC3 (made for ORT's CUDA provider)",
               note="normalize_routing_weights 0" if name == "olmoe" else gate)
    m.case("tf5_granitemoe_block_moe_op", "granitemoe", block_of(granitemoe, lambda layer: layer.block_sparse_moe), 8, 2, 1,
           form="a", impl="batched_mm", kind="block", options=dict(ort_fusions="cuda"),
           note="normalize_routing_weights 1", why="com.microsoft.MoE from a router that takes softmax after top-k")
    m.case("tf5_qwen3_moe_opset24", "qwen3_moe", qwen3, 8, 3, 2, options=dict(opset_version=24), note=gate,
           why="newest opset: Attention and norm operators where the exporter uses them")
    m.case("tf5_granitemoe_opset18", "granitemoe", granitemoe, 8, 2, 2, form="c1", impl="batched_mm", options=dict(opset_version=18),
           note="top-k of logits, softmax over the selected", why="older opset")
    m.case("tf5_mixtral_ort_cpu", "mixtral", mixtral, 8, 2, 2, options=dict(ort_fusions="cpu"), note=gate,
           why="grouped experts among contrib attention and norm ops (ort_fusions='cpu')")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default=str(pathlib.Path(__file__).resolve().parents[1]))
    p.add_argument("--only", default="", help="make only the cases whose name contains one of these (comma-separated)")
    a = p.parse_args()
    maker = Maker(a.out, a.only)
    visible(maker)
    for line in maker.failed:
        print("failed:", *line)
