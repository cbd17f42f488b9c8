"""As experts.py, with convolutions as experts: images of 14 x 14 pixels, a 3 x 3
convolution with ReLU and a 1 x 1 convolution back."""

import experts
import subjects

SIZE = 14

CONVOLUTION = ("groups = 1, out = [{S}, {S}], strides = [1, 1], "
               "dilations = [1, 1], pad_before = [{pad}, {pad}], "
               "input_dilation = [1, 1]")

LAYER = """func @main(%0 "expert": i64[{k}*T], %1 "x": f32[T,{C},{S},{S}], \
%2 "w": f32[{k}*T]) {{
  %3 = constant {{dtype = f32, shape = [{E},{M},{C},3,3], \
data = digest(1, {first})}}
  %4 = constant {{dtype = f32, shape = [{E},{C},{M},1,1], \
data = digest(2, {second})}}
  %5 = moe.experts(%0, _, %1, %3, %4) {{experts = {E}, k = {k}, tokens = T, \
token_values = 1, banks = [2], structure = {structure}, position = {position}, \
rows = n}} (%10: f32[n,{C},{S},{S}], %11: f32[{M},{C},3,3], \
%12: f32[{C},{M},1,1]) {{
    %13 = convolve(%10, %11) {{{wide}}}
    %14 = constant {{dtype = f32, shape = [], data = [0.0]}}
    %15 = max(%13, %14)
    %16 = convolve(%15, %12) {{{narrow}}}
    yield(%16)
  }}
  %20 = moe.combine(%5, %2) {{k = {k}, tokens = T}}
  return(%20)
}}
"""


def compile_layer(args):
    E, C, M = args.experts, args.hidden, args.inside
    text = LAYER.format(E=E, C=C, M=M, S=SIZE, k=args.k,
                        first=E * M * C * 9 * 4, second=E * C * M * 4,
                        structure=[0] * E, position=list(range(E)),
                        wide=CONVOLUTION.format(S=SIZE, pad=1),
                        narrow=CONVOLUTION.format(S=SIZE, pad=0))
    return experts.compile_text(args, "images", text)


def main(args):
    args.experts, args.hidden, args.inside, args.k = args.layer or [8, 64, 128, 2]
    images = [int(n) for n in args.paths] or [1, 16, 64, 256]
    probe = subjects.Probe(args.build / "bench" / "libmoec_probe.so")
    library = compile_layer(args)
    weights = 10 * args.hidden * args.inside
    rows = []
    for n in images:
        inputs = experts.make_inputs(args, n, (args.hidden, SIZE, SIZE))
        for threads in args.threads:
            limit = experts.Limit(probe, args, inputs["expert"][1], threads,
                                  2.0 * weights * SIZE * SIZE, 4 * weights)
            rows.append(experts.measure(args, library, inputs, limit, threads))
    return {"experts": args.experts, "channels": args.hidden,
            "inside": args.inside, "k": args.k, "size": SIZE, "rows": rows}
