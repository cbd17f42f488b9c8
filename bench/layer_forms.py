"""One Mixture-of-Experts layer in several forms (tests/moe/forms.py): moec against
ONNX Runtime and against moec without recognition, and each form against the first.
What would have to copy too many weights is left out: gathered forms without
recognition have a copy of its experts' matrices for each token."""

import pathlib
import statistics
import sys

import numpy as np

import compiling
import moec_library
import subjects

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] /
                    "tests" / "moe"))
import forms  # noqa: E402

SHOWN = ("dense", "dense_batched", "gathered", "looped", "grouped")
MOST_COPIED = 1 << 30  # bytes
PLAIN = ("--disable-pass=moe",)


def write(args, form, layer):
    """Model and libraries of a form."""
    folder = args.out / "forms"
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / f"{form}.onnx"
    model.write_bytes(forms.make_model(form, layer).SerializeToString())
    made = {"model": model}
    for name, options in (("moec", ()), ("plain", PLAIN)):
        library = folder / f"{form}.{name}.so"
        done = compiling.compile_once(args.moec, model, library, args.isa,
                                      options)
        if done["status"] != 0:
            raise RuntimeError(f"{form}: {done['message']}")
        made[name] = moec_library.Library(library)
    return made


def copied(form, layer, tokens):
    """Bytes of matrices that the form has for all tokens together."""
    if not form.startswith("gathered"):
        return 0
    return 4 * tokens * layer.k * layer.width * layer.inside


def make_subjects(made, inputs, threads, plain):
    """Name -> what runs the form."""
    found = {"moec": subjects.Moec(made["moec"], inputs, threads)}
    if plain:
        found["plain"] = subjects.Moec(made["plain"], inputs, threads)
        found["ort"] = subjects.Ort(made["model"], inputs, threads)
    for each in found.values():
        each.run()
    return found


def ratio(a, b):
    each = sorted(x / y for x, y in zip(a, b))
    return {"median": statistics.median(each), "min": each[0], "max": each[-1]}


def show(r):
    if r is None:
        return f"{'-':>20}"
    return f"{r['median']:6.2f} ({r['min']:.2f}..{r['max']:.2f})".rjust(20)


def check_same(form, found):
    if "ort" not in found:
        return
    ours, theirs = found["moec"].output(0, np.float32), found["ort"].output(0)
    scale = np.abs(theirs).max()
    if not np.allclose(ours, theirs, rtol=1e-2, atol=1e-3 * scale):
        raise RuntimeError(f"{form}: results differ from ONNX Runtime's")


def measure(args, layer, made, tokens, threads):
    random = np.random.default_rng(2)
    x = random.standard_normal((tokens, layer.width)).astype(np.float32)
    inputs = {"x": (1, x)}
    found = {}
    for form in made:
        plain = copied(form, layer, tokens) <= MOST_COPIED
        found[form] = make_subjects(made[form], inputs, threads, plain)
        check_same(form, found[form])
    times = {(form, name): [] for form in found for name in found[form]}
    for _ in range(args.rounds):
        for form, name in times:
            times[form, name].append(subjects.sample(
                found[form][name].run, threads, args.seconds))
    rows = []
    for form in found:
        ours = times[form, "moec"]
        other = {name: ratio(times[form, name], ours) if name in found[form]
                 else None for name in ("ort", "plain")}
        row = {"form": form, "tokens": tokens, "threads": threads,
               "moec_us": statistics.median(ours) * 1e6,
               "ort_to_moec": other["ort"], "plain_to_moec": other["plain"],
               "to_first": ratio(ours, times[next(iter(found)), "moec"])}
        rows.append(row)
        print(f"{form:14} {tokens:6} {threads:2} {row['moec_us']:11.1f} "
              f"{show(other['ort'])} {show(other['plain'])} "
              f"{show(row['to_first'])}", flush=True)
    for form in found:
        for name in ("moec", "plain"):
            if name in found[form]:
                found[form][name].instance.close()
    return rows


def main(args):
    experts, width, inside, k = args.layer or [8, 256, 704, 2]
    layer = forms.Layer(experts=experts, width=width, inside=inside, k=k)
    tokens = [int(n) for n in args.paths] or [1, 16, 256, 2048]
    made = {form: write(args, form, layer) for form in SHOWN}
    print(f"{'form':14} {'tokens':>6} {'th':>2} {'moec us':>11} "
          f"{'ORT / moec':>20} {'plain / moec':>20} {'moec / first form':>20}")
    rows = [row for n in tokens for threads in args.threads
            for row in measure(args, layer, made, n, threads)]
    return {"experts": experts, "width": width, "inside": inside, "k": k,
            "rows": rows}
