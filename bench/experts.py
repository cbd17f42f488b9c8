"""A Mixture-of-Experts layer against its own sparse limit: moe.experts and
moe.combine in IR, k experts of E for each token, each with gate, up and down
projections (SiLU). The limit is, expert by expert, the time of reading its weights
once or of the products of its rows at the peak of fp32 arithmetic, whichever is
longer; experts without tokens cost nothing."""

import subprocess

import numpy as np

import moec_library
import subjects

TYPES = {"f32": 4, "f16": 2, "bf16": 2}

LAYER = """func @main(%0 "expert": i64[{k}*T], %1 "x": f32[T,{H}], %2 "w": f32[{k}*T]) {{
  %3 = constant {{dtype = {type}, shape = [{E},{H},{I}], data = digest(1, {bytes})}}
  %4 = constant {{dtype = {type}, shape = [{E},{H},{I}], data = digest(2, {bytes})}}
  %5 = constant {{dtype = {type}, shape = [{E},{I},{H}], data = digest(3, {bytes})}}
  %6 = moe.experts(%0, _, %1, %3, %4, %5) {{experts = {E}, k = {k}, tokens = T, \
token_values = 1, banks = [3], structure = {structure}, position = {position}, \
rows = n}} (%10: f32[n,{H}], %11: {type}[{H},{I}], %12: {type}[{H},{I}], \
%13: {type}[{I},{H}]) {{
    %14 = cast(%11) {{to = f32}}
    %15 = cast(%12) {{to = f32}}
    %16 = cast(%13) {{to = f32}}
    %17 = matmul(%10, %14)
    %18 = sigmoid(%17)
    %19 = mul(%17, %18)
    %20 = matmul(%10, %15)
    %21 = mul(%19, %20)
    %22 = matmul(%21, %16)
    yield(%22)
  }}
  %23 = moe.combine(%6, %2) {{k = {k}, tokens = T}}
  return(%23)
}}
"""


def compile_text(args, name, text):
    args.out.mkdir(parents=True, exist_ok=True)
    source, library = args.out / f"{name}.moeir", args.out / f"{name}.so"
    source.write_text(text)
    isa = [f"--isa={args.isa}"] if args.isa else []
    subprocess.run([args.moec, source, "-o", library, *isa], check=True)
    return moec_library.Library(library)


def compile_layer(args):
    """Weights are zeros, as text without files has them: times are the same."""
    E, H, I = args.experts, args.hidden, args.inside
    text = LAYER.format(E=E, H=H, I=I, k=args.k, type=args.type,
                        bytes=E * H * I * TYPES[args.type],
                        structure=[0] * E, position=list(range(E)))
    return compile_text(args, "experts", text)


def make_inputs(args, tokens, features):
    random = np.random.default_rng(1)
    expert = np.stack([random.permutation(args.experts)[:args.k]
                       for _ in range(tokens)]).reshape(-1)
    x = random.standard_normal((tokens, *features)).astype(np.float32)
    w = random.random(tokens * args.k).astype(np.float32)
    return {"expert": (7, expert.astype(np.int64)), "x": (1, x), "w": (1, w)}


class Limit:
    """Of experts with so many operations for a row, and bytes of weights."""

    def __init__(self, probe, args, expert, threads, work, weight_bytes):
        rows = np.bincount(expert, minlength=args.experts)
        self.rows = rows[rows > 0]
        self.work, self.bytes = work, weight_bytes
        self.probe, self.threads = probe, threads
        self.size = -(-len(self.rows) * self.bytes // 8192) * 8192
        self.data = probe.buffer(self.size)

    def sample(self):
        operations = self.probe.operations(b"f32", self.threads, 0.01)
        bandwidth = self.probe.read(self.data, self.size, self.threads, 2)
        each = np.maximum(self.rows * self.work / operations,
                          self.bytes / bandwidth)
        return float(each.sum())


def measure(args, library, inputs, limit, threads):
    tokens = len(inputs["x"][1])
    moec = subjects.Moec(library, inputs, threads)
    moec.run()
    ours, limits = [], []
    for _ in range(args.rounds):
        limits.append(limit.sample())
        ours.append(subjects.sample(moec.run, threads, args.seconds))
    moec.instance.close()
    ratios = sorted(a / b for a, b in zip(ours, limits))
    row = {"tokens": tokens, "threads": threads, "experts": len(limit.rows),
           "moec_us": float(np.median(ours)) * 1e6,
           "moec_to_limit": {"median": float(np.median(ratios)),
                             "min": ratios[0], "max": ratios[-1]}}
    r = row["moec_to_limit"]
    print(f"{tokens:6} tokens {row['experts']:4} experts touched {threads:2} "
          f"threads {row['moec_us']:12.1f} us  moec / limit "
          f"{r['median']:5.2f} ({r['min']:.2f}..{r['max']:.2f})", flush=True)
    return row


def main(args):
    args.experts, args.hidden, args.inside, args.k = (
        args.layer or [16, 1024, 2816, 4])
    tokens = [int(n) for n in args.paths] or [1, 16, 256, 2048]
    probe = subjects.Probe(args.build / "bench" / "libmoec_probe.so")
    library = compile_layer(args)
    matrix = 3 * args.hidden * args.inside
    rows = []
    for n in tokens:
        inputs = make_inputs(args, n, (args.hidden,))
        for threads in args.threads:
            limit = Limit(probe, args, inputs["expert"][1], threads,
                          2.0 * matrix, matrix * TYPES[args.type])
            rows.append(measure(args, library, inputs, limit, threads))
    return {"experts": args.experts, "hidden": args.hidden,
            "inside": args.inside, "k": args.k, "type": args.type, "rows": rows}
