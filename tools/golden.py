#!/usr/bin/env python3
"""Checks golden files: IR in, IR or diagnostics out.

    // moec opt: --passes=canonicalize,dce
    // Why the expectation is what it is.
    func @f(...) ...
    // expect:
    what moec prints            or   // expect-error:
                                     words of the diagnostics, one per line

After expect-error each line must be part of the diagnostics, and moec must
fail; after expect the output must match in full, but for the two lines that
wrap functions in a module without a name and the hashes in names of kernels,
which any new operation changes. A file passes when there is no difference; else
the difference, the command and the way to accept it are printed.
"""
import argparse
import difflib
import pathlib
import re
import shlex
import subprocess
import sys

HEADER = "// moec opt:"
EXPECT, EXPECT_ERROR = "// expect:", "// expect-error:"


def unwrap(text):
    lines = re.sub(r"(k_\w+_)[0-9a-f]{16}\b", r"\1HASH", text).splitlines()
    return lines[1:-1] if lines and lines[0].startswith('module ""') else lines


class Golden:
    """A golden file in its parts; `before` is everything up to the expectation."""

    def __init__(self, path):
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines()
        marks = [i for i, line in enumerate(lines) if line in (EXPECT, EXPECT_ERROR)]
        if not lines or not lines[0].startswith(HEADER) or len(marks) != 1:
            raise SystemExit(f"{path}: begins with no '{HEADER}', or has not exactly one '{EXPECT}' or '{EXPECT_ERROR}'")
        self.options = shlex.split(lines[0].removeprefix(HEADER))
        self.before, self.expected = lines[:marks[0]], lines[marks[0] + 1:]
        self.fails = lines[marks[0]] == EXPECT_ERROR

    def run(self, moec):
        command = [moec, "opt", *self.options, "-"]
        done = subprocess.run(command, input="\n".join(self.before) + "\n", capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def check(self, moec):
        """What is wrong, as lines; none if nothing is."""
        code, out, err = self.run(moec)
        if self.fails:
            if code == 0:
                return ["moec succeeded, but should have failed", *out.splitlines()]
            missing = [line for line in self.expected if line.strip() not in err]
            return [f"the diagnostics lack: {line}" for line in missing] + (err.splitlines() if missing else [])
        if code != 0:
            return [f"moec failed with exit code {code}", *err.splitlines()]
        return list(difflib.unified_diff(self.expected, unwrap(out), f"{self.path.name} (expected)", "actual", lineterm=""))

    def update(self, moec):
        code, out, err = self.run(moec)
        mark, lines = (EXPECT_ERROR, err.splitlines()) if code != 0 else (EXPECT, unwrap(out))
        lines = [line.removeprefix("moec: ").removeprefix("error: ").removeprefix("<stdin>: ") for line in lines]
        self.path.write_text("\n".join([*self.before, mark, *lines]) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moec", default="build/release/moec")
    parser.add_argument("--update", action="store_true", help="write what moec prints into the files")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    args = parser.parse_args()

    bad = 0
    for path in args.files:
        golden = Golden(path)
        if args.update:
            golden.update(args.moec)
            continue
        wrong = golden.check(args.moec)
        if wrong:
            bad += 1
            print("\n".join(wrong))
            command = shlex.join([args.moec, "opt", *golden.options])
            print(f"reproduce: sed '/^{EXPECT[:9]}/,$d' {path} | {command}".replace("^//", r"^\/\/"))
            print(f"accept:    tools/golden.py --moec {args.moec} --update {path}")
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
