#!/usr/bin/env python3
"""Makes a failing .moeir file smaller while it fails in the same way.

    tools/reduce.py fails.moeir 'moec opt --passes=fuse {}' [--words TEXT]

The same way means: the command, with {} for the file, ends with the same exit
code as at first, and TEXT is in its output. Operations are taken out one by one
(or many at once), with uses of their results turned to an earlier value of the
same type; results of the function that are not needed go too. The file is
changed in place; FILE.orig keeps the first one.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

OP = re.compile(r"^  (?P<results>%\d+(?:, %\d+)*) = .* : (?P<types>.+?)(?: loc .*)?$")
ARG = re.compile(r"(%\d+)(?: \"[^\"]*\")?: ((?:[^,\[\])]|\[[^\]]*\])+)")
RETURN = re.compile(r"^  return\((.*)\)")


def split_types(text):
    """The types of several results; commas inside brackets do not count."""
    return [t.strip() for t in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text)]


class Case:
    def __init__(self, command, words):
        self.command, self.words = command, words
        self.code = None  # any, until the first run
        self.n_runs = 0

    def fails(self, lines):
        self.n_runs += 1
        with tempfile.NamedTemporaryFile("w", suffix=".moeir") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            done = subprocess.run(self.command.replace("{}", file.name), shell=True, capture_output=True,
                                  text=True, errors="replace", timeout=600)
        if self.code is None:
            self.code = done.returncode
        return done.returncode == self.code != 0 and self.words in done.stdout + done.stderr


def without(lines, index):
    """The lines without the operation at `index`, or None where its results have
    no stand-in."""
    op = OP.match(lines[index])
    if not op:
        return None
    earlier = {}  # type -> last value of it before the operation
    for line in lines[:index]:
        if line.startswith(("func ", "kernel ")):
            earlier = {kind.strip(): value for value, kind in ARG.findall(line)}
        before = OP.match(line)
        if before:
            earlier.update(zip(split_types(before["types"]), before["results"].split(", ")))
    text = "\n".join(lines[:index] + lines[index + 1:])
    for result, kind in zip(op["results"].split(", "), split_types(op["types"])):
        used = re.compile(re.escape(result) + r"(?!\d)")
        users = [line for line in lines[index + 1:] if used.search(line)]
        stand_in = earlier.get(kind)
        if stand_in is None and earlier and all(RETURN.match(user) for user in users):
            stand_in = list(earlier.values())[-1]  # a function may return any type
        if users and stand_in is None:
            return None
        text = used.sub(stand_in or "", text)
    return text.split("\n")


def shorter_return(lines, index, operand):
    lines = list(lines)
    operands = RETURN.match(lines[index])[1].split(", ")
    del operands[operand]
    lines[index] = f"  return({', '.join(operands)})"
    head = max(i for i in range(index) if lines[i].startswith(("func ", "kernel ")))
    named = re.match(r"(.*) -> \((.*)\) \{$", lines[head])
    if named:
        names = re.findall(r'"(?:[^"\\]|\\.)*"|_', named[2])
        del names[operand]
        lines[head] = f"{named[1]} -> ({', '.join(names)}) {{"
    return lines


def candidates(lines):
    """Smaller texts, the most promising ones first."""
    for index in reversed(range(len(lines))):
        match = RETURN.match(lines[index])
        count = len(match[1].split(", ")) if match else 0
        for operand in range(count if count > 1 else 0):
            yield shorter_return(lines, index, operand)
        smaller = without(lines, index)
        if smaller is not None:
            yield smaller


def reduce(case, lines):
    progress = True
    while progress:
        progress = False
        for smaller in candidates(lines):
            if case.fails(smaller):
                lines, progress = smaller, True
                print(f"{len(lines)} lines after {case.n_runs} runs", flush=True)
                break
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("command")
    parser.add_argument("--words", default="", help="what the output must contain")
    args = parser.parse_args()

    case = Case(args.command, args.words)
    lines = args.file.read_text(encoding="utf-8").splitlines()
    if not case.fails(lines):
        print("the command does not fail, or does not say these words")
        return 1
    shutil.copy(args.file, f"{args.file}.orig")
    args.file.write_text("\n".join(reduce(case, lines)) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
