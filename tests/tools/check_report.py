"""Reports of the committed models match their schema.

Compares docs/reference/report.schema.json with what --report writes and with the
note that `moec inspect --json` shows, and the two with each other; the schema
refuses reports that were changed on purpose.
"""
import argparse
import copy
import json
import pathlib
import subprocess
import sys
import tempfile

import json_schema

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def layer():
    """One as --report writes it, for changing."""
    work = {"multiply_adds": 96, "elementwise": "6*H", "weight_bytes": None}
    return {"name": "a", "node": {"index": 0, "name": "a", "operator": "Add"},
            "form": "loop over experts", "experts": 8, "k": 2,
            "groups": {"count": 4, "kept": 2}, "router": "softmax", "structure": "x W",
            "structures": 1, "shared": 0, "missing": [3], "weight_position": "output",
            "exactness": "EX1", "assumptions": ["outputs are finite"],
            "before": work, "after": work, "sparse": True}


def check_schema_refuses(report, schema):
    """A schema that accepts everything would be of no use."""
    sound = copy.deepcopy(report)
    sound["layers"] = [layer(), layer() | {"k": 0}]
    sound["refusals"] = [{"node": {}, "blocker": {"index": 1}, "obligation": "x"}]
    sound["losses"] = [{"node": {}, "kept": False}]
    problems = json_schema.check(sound, schema)

    def broken(change):
        report = copy.deepcopy(sound)
        change(report)
        return report

    for change in [lambda r: r.pop("layers"),
                   lambda r: r["layers"][0].pop("experts"),
                   lambda r: r["layers"][1].pop("k"),
                   lambda r: r["layers"][0].update(k="2"),
                   lambda r: r["layers"][0].update(k=None),
                   lambda r: r["layers"][0].update(k=-1),
                   lambda r: r["layers"][0].update(experts=0),
                   lambda r: r["layers"][0].update(missing=[-1]),
                   lambda r: r["layers"][0].update(colour="red"),
                   lambda r: r["layers"][0].update(exactness="EX3"),
                   lambda r: r["layers"][0]["after"].update(weight_bytes=[]),
                   lambda r: r["refusals"][0].pop("blocker"),
                   lambda r: r["losses"][0].update(kept=1),
                   lambda r: r["signature"]["inputs"][0].update(dims=[1.5]),
                   lambda r: r["code"]["kernels"][0].update(launches=-1),
                   lambda r: r["imported"]["operators"].append("MatMul"),
                   lambda r: r.update(level=True)]:
        bad = broken(change)
        if not json_schema.check(bad, schema):
            problems.append(f"the schema accepts a report where {change.__code__.co_firstlineno}"
                            f" of this file changed something")
    return problems


def check_model(moec, model, schema, folder):
    so, path = folder / "m.so", folder / "report.json"
    run([moec, model, "-o", so, f"--report={path}", "--isa=x86-64"])
    report = json.loads(path.read_text())
    inspected = json.loads(run([moec, "inspect", "--json", so]))
    problems = json_schema.check(report, schema)
    problems += [f"note: {p}" for p in json_schema.check(inspected["report"], schema)]
    together = inspected["report"] | {k: inspected[k] for k in ("signature", "code")}
    if together != report:
        problems.append("what inspect shows is not the report")
    return report, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moec", required=True)
    parser.add_argument("models", nargs="*", type=pathlib.Path)
    args = parser.parse_args()
    schema = json.loads((ROOT / "docs/reference/report.schema.json").read_text())
    models = args.models or sorted((ROOT / "tests/models").glob("*/model.onnx"))
    failed, report, layers = 0, None, 0
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            report, problems = check_model(args.moec, model, schema, pathlib.Path(folder))
            layers += len(report["layers"])
            failed += bool(problems)
            for problem in problems:
                print(f"{model}: {problem}")
    if report is not None:
        for problem in check_schema_refuses(report, schema):
            failed += 1
            print(problem)
    print(f"{len(models)} reports with {layers} layers, {failed} wrong")
    return failed > 0 or not models


if __name__ == "__main__":
    sys.exit(main())
