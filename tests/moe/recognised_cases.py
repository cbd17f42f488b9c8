#!/usr/bin/env python3
"""The table of model cases: layers expected, layers found, their form.

usage: recognised_cases.py --moec MOEC [--known FILE] [--jobs N] [FOLDER...]

A FOLDER is a case, or has cases (tests/models unless given). Each is compiled and
run once: its results must be those of its data sets, and the report must have
exactly the layers of its case.json:

    moe_layers   experts and k of each (0: k varies); "optional": need not be found;
                 "present": the experts that the export did not lose
    expect       recognise (all of them), either (each or none of them),
                 must_not_recognise, none (nothing said of layers), error, refuse
                 (moec ends with exit code 3 or 4 and words of "error_about")
    sparsify     false: layers may be found, but must not be made sparse

details.json has what the report must say beside that of the layers of some cases,
in its order: experts that all tokens share, groups of the router, capacities, work.
refusals.json has all that the report must list as refused: the node, what it looks
like, the node that stopped it, what could not be shown.

Gaps that are known are lines of unrecognised_cases.txt, checked both ways: a case
of it that is as it should be is an error, and so is one that does not exist.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
TIMEOUT = 300
DETAILS = json.loads((HERE / "details.json").read_text())
REFUSALS = json.loads((HERE / "refusals.json").read_text())


def find(folders):
    """Folders with a case.json: the folders given, or those inside of them."""
    found = []
    for folder in folders:
        inside = [folder / "case.json"] + sorted(folder.glob("*/case.json"))
        found += [path.parent for path in inside if path.exists()]
    return found


def read_known(path):
    """Name of a case -> number of its line."""
    lines = enumerate(path.read_text().splitlines(), 1)
    words = ((number, line.split("#")[0].strip()) for number, line in lines)
    return {word: number for number, word in words if word}


def numbers(layers):
    return sorted((layer["experts"], layer["k"]) for layer in layers)


def without(items, taken):
    """items without those of taken, each of which counts once."""
    rest = list(items)
    for item in taken:
        if item in rest:
            rest.remove(item)
    return rest


def text_of(pairs):
    return " ".join(f"{experts}/{k}" for experts, k in pairs) or "-"


class Row:
    """One case: what moec made of it."""

    def __init__(self, moec, case, options=()):
        self.name = case.name
        self.stated = json.loads((case / "case.json").read_text())
        self.expect = self.stated.get("expect", "none")
        with tempfile.TemporaryDirectory() as folder:
            report = pathlib.Path(folder) / "report.json"
            command = [moec, "verify", case, f"--report={report}", *options]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
                self.status, self.said = done.returncode, done.stdout + done.stderr
            except subprocess.TimeoutExpired:
                self.status, self.said = None, f"no end after {TIMEOUT} s"
            told = json.loads(report.read_text()) if report.exists() else {}
            self.layers, self.refusals = told.get("layers", []), told.get("refusals", [])
        self.wanted = self.stated.get("moe_layers", [])
        self.problems = list(self.judge())

    def judge(self):
        if self.expect in ("error", "refuse"):
            yield from self.judge_refusal()
        elif self.status != 0:
            lines = [line for line in self.said.splitlines() if "  ok  " not in line]
            said = " ".join(" ".join(lines).split())[:240]
            yield f"{'results differ' if self.status == 1 else f'exit {self.status}'}: {said}"
        else:
            yield from self.judge_layers()

    def judge_refusal(self):
        words = self.stated.get("error_about", [])
        words = [words] if isinstance(words, str) else words
        if self.status not in (3, 4):
            yield f"exit {self.status} where a refusal is due"
        for word in words:
            if word.lower() not in self.said.lower():
                yield f"the refusal has no word of {word!r}"

    def judge_layers(self):
        found, wanted = numbers(self.layers), numbers(self.wanted)
        needed = numbers(layer for layer in self.wanted if not layer.get("optional"))
        if self.expect in ("must_not_recognise", "none") and found:
            yield "nothing is to be found"
        if self.expect in ("recognise", "either") and without(found, wanted):
            yield f"beyond what is there: {text_of(without(found, wanted))}"
        if self.expect == "recognise" and without(needed, found):
            yield f"not found: {text_of(without(needed, found))}"
        if self.stated.get("sparsify") is False and any(one["sparse"] for one in self.layers):
            yield "is made sparse, which changes results"
        if len(self.layers) == len(self.wanted) and found == wanted:
            yield from self.judge_details()
        told = [[one["node"].get("name"), one["candidate"], one["blocker"].get("name"),
                 one["obligation"]] for one in self.refusals]
        if told != REFUSALS.get(self.name, told):
            yield f"refused: {told}"

    def judge_details(self):
        """Layers with experts that are missing are listed in the report's order."""
        for wanted, layer in zip(self.wanted, self.layers):
            missing = []
            if "present" in wanted:
                missing = [e for e in range(wanted["experts"]) if e not in wanted["present"]]
            if layer["missing"] != missing:
                yield f"missing are {layer['missing']}, not {missing}"
        for number, stated in enumerate(DETAILS.get(self.name, [])):
            yield from self.differences(self.layers[number], stated, "")

    def differences(self, found, stated, name):
        for key, value in stated.items():
            if isinstance(value, dict):
                yield from self.differences(found.get(key, {}), value, f"{name}{key} ")
            elif found.get(key) != value:
                yield f"{name}{key} is {found.get(key)}, not {value}"

    def show(self, verdict):
        forms = sorted({layer.get("form", "?") for layer in self.layers})
        print(f"{self.name:42} {self.expect:18} {text_of(numbers(self.wanted)):16} "
              f"{text_of(numbers(self.layers)):16} {', '.join(forms) or '-':22} {verdict}",
              flush=True)


def judge_row(row, known, named):
    """Whether the row is as it should be or as it is known to be; prints it."""
    gap = known.get(row.name)
    if row.problems:
        row.show(("known gap: " if gap else "WRONG: ") + "; ".join(row.problems))
        return gap is not None
    row.show("right" if not gap else f"WRONG: as it should be; remove line {gap} of {named}")
    return not gap


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moec", required=True)
    parser.add_argument("--known", type=pathlib.Path, default=HERE / "unrecognised_cases.txt")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("folders", nargs="*", type=pathlib.Path, metavar="FOLDER")
    args = parser.parse_args()
    known = read_known(args.known)
    cases = find(args.folders or [MODELS])
    print(f"{'case':42} {'expected':18} {'experts/k':16} {'found':16} {'form':22}")
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = []
        for row in pool.map(lambda case: Row(args.moec, case), cases):
            rows.append((row, judge_row(row, known, args.known.name)))
    failed = sum(not right for _, right in rows)
    names = {row.name for row, _ in rows}
    for name, number in known.items():
        if not args.folders and name not in names:
            failed += 1
            print(f"{args.known.name}, line {number}: no case is called {name}")
    asked = [row for row, _ in rows if row.expect == "recognise"]
    print(f"{len(rows)} cases, {sum(bool(row.layers) for row, _ in rows)} with layers; "
          f"{sum(not row.problems for row in asked)} of {len(asked)} that are to be recognised "
          f"are; {failed} not as expected")
    return failed > 0 or not rows


if __name__ == "__main__":
    sys.exit(main())
