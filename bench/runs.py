"""How fast compiled models run: moec, ONNX Runtime and the limit in turn."""

import math
import statistics
import sys

import numpy as np

import case as cases
import compiling
import moec_library
import subjects


def ratio(a, b):
    """Median, least and greatest of a[i] / b[i]."""
    each = [x / y for x, y in zip(a, b) if y]
    if not each:
        return None
    return {"median": statistics.median(each), "min": min(each),
            "max": max(each)}


def check_same(moec, peer, case):
    """Both must have computed the same, or their times mean nothing."""
    for i, name in enumerate(o.name for o in peer.session.get_outputs()):
        theirs = peer.output(i)
        if theirs.dtype.kind not in "fiub" or theirs.dtype.itemsize < 2:
            continue
        ours = moec.output(i, theirs.dtype)
        if ours.shape != theirs.shape or not np.allclose(
                ours, theirs, rtol=0.05, atol=0.05 * np.abs(theirs).max(
                    initial=1e-3)):
            return f"output {name} differs from ONNX Runtime's"
    return None


def measure_threads(case, library, inputs, threads, args, probe):
    result = {"threads": threads}
    moec = subjects.Moec(library, inputs, threads, args.variant)
    moec.run()
    result["variant"] = moec.instance.variant()
    result["create_ms"] = moec.instance.create_seconds * 1e3
    peer = limit = None
    try:
        peer = subjects.Ort(case / "model.onnx", inputs, threads)
        peer.run()
        result["differs"] = check_same(moec, peer, case)
    except Exception as error:  # of many types, for models it does not take
        result["peer_error"] = str(error).splitlines()[0][:200]
        peer = None
    try:
        work = cases.product_operations(
            case, inputs, lambda m: subjects.make_session(m, 1, False))
    except Exception as error:
        result["limit_error"], work = str(error).splitlines()[0][:200], None
    if work:
        limit = subjects.Limit(probe, work, cases.weight_bytes(case), threads)
        result["operations"] = work
    times = {"moec": [], "peer": [], "limit": []}
    for _ in range(args.rounds):
        if limit is not None:
            times["limit"].append(limit.sample())
        times["moec"].append(subjects.sample(moec.run, threads, args.seconds))
        if peer is not None:
            times["peer"].append(
                subjects.sample(peer.run, threads, args.seconds))
    for name, each in times.items():
        if each:
            result[name + "_us"] = statistics.median(each) * 1e6
    result["peer_to_moec"] = ratio(times["peer"], times["moec"])
    result["limit_to_moec"] = ratio(times["limit"], times["moec"])
    moec.instance.close()
    return result


def measure_case(case, args, probe):
    row = {"case": case.name}
    sets = cases.data_sets(case)
    data_set = sets[-1] if args.data is None else case / (
        f"test_data_set_{args.data}")
    row["data"] = data_set.name
    row["dims"] = args.dims
    output = args.out / f"{case.name}.so"
    row["compile"] = compiling.compile_once(args.moec, case / "model.onnx",
                                            output, args.isa)
    if row["compile"]["status"] != 0:
        return row | {"error": row["compile"]["message"]}
    try:
        inputs = cases.load_inputs(case, data_set, args.dims)
        library = moec_library.Library(output)
        row["load_ms"] = library.load_seconds * 1e3
        row["runs"] = [measure_threads(case, library, inputs, n, args, probe)
                       for n in args.threads]
    except (ValueError, RuntimeError) as error:
        row["error"] = str(error)
    return row


def show_ratio(r):
    if r is None:
        return f"{'-':>22}"
    return f"{r['median']:7.2f} ({r['min']:.2f}..{r['max']:.2f})".rjust(22)


def show(row):
    name = row["case"]
    if "error" in row:
        print(f"{name:36} {row['error'][:100]}")
        return
    for r in row["runs"]:
        peer = f"{r['peer_us']:10.1f}" if "peer_us" in r else f"{'-':>10}"
        note = r.get("differs") or r.get("peer_error", "")[:40] or ""
        print(f"{name:36} {r['threads']:2} {r['moec_us']:10.1f} {peer} "
              f"{show_ratio(r['peer_to_moec'])} "
              f"{show_ratio(r['limit_to_moec'])} {note}")
    sys.stdout.flush()


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def summary(rows, threads):
    """Geometric mean of the ratios to the peer over the cases that both run."""
    out = []
    for n in threads:
        ratios = [r["peer_to_moec"]["median"] for row in rows
                  for r in row.get("runs", [])
                  if r["threads"] == n and r["peer_to_moec"]]
        if ratios:
            out.append({"threads": n, "cases": len(ratios),
                        "geometric_mean": geometric_mean(ratios),
                        "least": min(ratios), "greatest": max(ratios),
                        "slower": sum(r < 1 for r in ratios)})
    return out


def main(args):
    probe = subjects.Probe(args.build / "bench" / "libmoec_probe.so")
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{'case':36} {'th':>2} {'moec us':>10} {'ORT us':>10} "
          f"{'ORT / moec':>22} {'limit / moec':>22}")
    rows = []
    for case in cases.find(args.paths):
        rows.append(measure_case(case, args, probe))
        show(rows[-1])
    means = summary(rows, args.threads)
    for m in means:
        print(f"{m['threads']} threads: ORT / moec, geometric mean of "
              f"{m['cases']} cases {m['geometric_mean']:.2f} "
              f"({m['least']:.2f}..{m['greatest']:.2f}), "
              f"{m['slower']} slower than ORT")
    loads = [row["load_ms"] for row in rows if "load_ms" in row]
    creates = [r["create_ms"] for row in rows for r in row.get("runs", [])]
    if creates:
        print(f"loading {statistics.median(loads):.3f} ms (at most "
              f"{max(loads):.3f}), creating an instance "
              f"{statistics.median(creates):.3f} ms (at most "
              f"{max(creates):.3f})")
    return {"cases": rows, "summary": means}
