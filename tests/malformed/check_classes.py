#!/usr/bin/env python3
"""Checks classes.txt: every class M01 to M78 is there once and has a test, and
every case of make_malformed.py belongs to a class.

usage: check_classes.py [FILE]"""

import fnmatch
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import make_malformed  # noqa: E402
from table import CASES  # noqa: E402


def is_there(reference):
    """Whether FILE#NAME is a function called by a list of tests."""
    path, _, name = reference.partition("#")
    file = HERE.parent / path
    return file.is_file() and f"({name})" in file.read_text()


def is_option(name):
    text = (HERE.parent.parent / "tools/options.def").read_text()
    return re.search(rf'^OPTION\(\w+, [^,]+, "{name}"', text, re.M) is not None


def complaints_of(number, tests, used):
    names = [case["name"] for case in CASES]
    words = tests.split()
    if not words:
        yield "has no tests"
    if words[:1] == ["!option"]:
        if len(words) != 2:
            yield "expected: !option NAME"
        elif is_option(words[1]):
            yield f"there is an option --{words[1]} now: it wants cases"
        return
    for word in words:
        if "#" in word:
            if not is_there(word):
                yield f"there is no test {word}"
            continue
        found = fnmatch.filter(names, word)
        used.update(found)
        if not found:
            yield f"no case is named {word}"
        if not word.startswith(f"m{number:02d}-"):
            yield f"{word} belongs to another class"


def main():
    make_malformed.add_all_cases()
    path = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else
                        HERE / "classes.txt")
    wanted, used, failed = 1, set(), 0

    def complain(text):
        nonlocal failed
        failed += 1
        print(f"{path.name}: {text}")

    for line in path.read_text().splitlines():
        if line == "" or line.startswith("#"):
            continue
        match = re.fullmatch(r"M(\d\d) .+:([^:]*)", line)
        if match is None:
            complain(f"not understood: {line}")
            continue
        number = int(match[1])
        if number != wanted:
            complain(f"M{number:02d} follows, expected M{wanted:02d}")
        wanted = number + 1
        for text in complaints_of(number, match[2], used):
            complain(f"M{number:02d} {text}")
    if wanted != 79:
        complain(f"ends before M{wanted:02d}, expected M78")
    for name in sorted({case["name"] for case in CASES} - used):
        complain(f"no class has the case {name}")
    print(f"{wanted - 1} classes, {len(CASES)} cases, {failed} complaints")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
