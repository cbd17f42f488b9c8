#!/usr/bin/env python3
"""Fails on a file of more than 1,000 lines or a function of more than 80.

A C function is what starts at a line in column 0 that opens a parameter list
and ends at the next closing brace in column 0, as clang-format lays it out.
"""
import ast
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILE_LINES, FUNCTION_LINES = 1000, 80
SUFFIXES = {".c", ".h", ".cc", ".def", ".py", ".sh", ".cmake", ".proto", ".txt"}
START = re.compile(r"^[A-Za-z_][\w\s*]*?\b(\w+)\(")


def c_functions(lines):
    """(name, first line, number of lines) of each function; counts from 1."""
    start = None
    for number, line in enumerate(lines, 1):
        match = START.match(line)
        if match:
            start = (match.group(1), number)
        elif start and line.startswith("}"):
            yield start[0], start[1], number - start[1] + 1
            start = None
        elif line.endswith(";") and not line.startswith((" ", "\t")):
            start = None  # a declaration


def py_functions(lines):
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1


def main():
    names = subprocess.run(["git", "ls-files", "--", ":!tests/models"], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split("\n")
    bad = 0
    for name in names:
        path = ROOT / name
        if path.suffix not in SUFFIXES or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > FILE_LINES:
            print(f"{name}: {len(lines)} lines; {FILE_LINES} are the limit")
            bad += 1
        find = {".c": c_functions, ".h": c_functions, ".cc": c_functions, ".py": py_functions}
        for function, line, length in find.get(path.suffix, lambda _: ())(lines):
            if length > FUNCTION_LINES:
                print(f"{name}:{line}: {function} has {length} lines; {FUNCTION_LINES} are the limit")
                bad += 1
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
