#!/usr/bin/env python3
"""Fails on a call of which two arguments build something.

C does not say which argument is evaluated first, and compilers differ: moec
would number values, and place code, by what compiled it. What builds is found
from the sources: the functions of BUILDS, and whatever calls one that builds.
Lists in braces are let pass, all compilers go through them in order.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ["ir", "frontend", "passes", "export", "backend"]
# What places an operation, makes a parameter or a name, emits an instruction or
# reports.
BUILDS = re.compile(r"LLVMBuild\w+|LLVMAppendBasicBlock\w*|LLVMAddGlobal\w*|LLVMAddFunction"
                    r"|ir_append|ir_insert_before|ir_place|expr_new_symbol"
                    r"|kernel_operand|kernel_size|og_node|og_tensor|og_input|diag_error|diag_warning")
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)\(((?:\\\n|[^\n])*)", re.M)
BLANKED = re.compile(r"""/\*.*?\*/ | //[^\n]* | ^[ \t]*\#(?:\\\n|[^\n])*
                       | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.S | re.M | re.X)
TOKEN = re.compile(r"[A-Za-z_]\w*|->|[^\w\s]|\d[\w.]*")
NAME = re.compile(r"[A-Za-z_]\w*$")
NO_CALLS = {"if", "for", "while", "switch", "return", "sizeof", "_Alignof", "_Static_assert", "case"}
OPEN, CLOSE = "([{", ")]}"


def tokens_of(text):
    """(token, line) without comments, strings and lines of the preprocessor."""
    def blank(match):
        return '""' * match.group().startswith(('"', "'")) + "\n" * match.group().count("\n")
    text = BLANKED.sub(blank, text)
    line, at = 1, 0
    for match in TOKEN.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        yield match.group(), line


def closing(tokens):
    """For each opening bracket's index that of its counterpart."""
    pairs, stack = {}, []
    for i, (token, _) in enumerate(tokens):
        if token in OPEN:
            stack.append(i)
        elif token in CLOSE and stack:
            pairs[stack.pop()] = i
    return pairs


def functions(tokens, pairs):
    """(name, whether static, body's begin, end) of each definition."""
    i, since = 0, 0
    while i < len(tokens):
        token = tokens[i][0]
        if token == "{":
            end = pairs.get(i, len(tokens))
            # The first name before a parenthesis that is no attribute.
            j = since
            while j < i:
                if tokens[j][0] == "__attribute__":
                    j = pairs[j + 1]
                elif tokens[j + 1][0] == "(" and NAME.match(tokens[j][0]):
                    static = any(tokens[k][0] == "static" for k in range(since, j))
                    yield tokens[j][0], static, i + 1, end
                    break
                j += 1
            i = end
            since = i + 1
        elif token in ";}":
            since = i + 1
        i += 1


def calls(tokens, begin, end):
    """Indices of names that are called."""
    for i in range(begin, end - 1):
        if tokens[i + 1][0] == "(" and NAME.match(tokens[i][0]) and tokens[i][0] not in NO_CALLS:
            yield i


def find_builders(files):
    """Keys (file, name) of static and (None, name) of other functions that build."""
    called = {}
    for file, (tokens, pairs, text) in files.items():
        for name, body in MACRO.findall(text):
            called[(None, name)] = {(f, n) for n in re.findall(r"\b(\w+)\(", body)
                                    for f in (file, None)}
        local = {name for name, static, _, _ in functions(tokens, pairs) if static}
        for name, static, begin, end in functions(tokens, pairs):
            names = {tokens[i][0] for i in calls(tokens, begin, end)}
            called[(file if static else None, name)] = {
                (file if n in local else None, n) for n in names}
    builders = {key for keys in called.values() for key in keys if BUILDS.fullmatch(key[1])}
    while True:
        more = {key for key, keys in called.items() if key not in builders and keys & builders}
        if not more:
            return builders
        builders |= more


def parts(tokens, pairs, begin, end):
    """The ranges that commas make of what is between two brackets."""
    i = since = begin
    while i < end:
        if tokens[i][0] == ",":
            yield since, i
            since = i + 1
        i = pairs.get(i, i) + 1
    yield since, end


def check(file, tokens, pairs, builders):
    bad = 0
    for function, _, begin, end in functions(tokens, pairs):
        for call in calls(tokens, begin, end):
            found = []
            for part in parts(tokens, pairs, call + 2, pairs[call + 1]):
                names = [tokens[i][0] for i in calls(tokens, *part)]
                found += [n for n in names if (file, n) in builders or (None, n) in builders][:1]
            if len(found) > 1:
                name, line = tokens[call]
                print(f"{file}:{line}: {function}: {name}() has the arguments "
                      f"{'(..) and '.join(found)}(..), which compilers evaluate in different "
                      "orders: put them into variables")
                bad += 1
    return bad


def main():
    files = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.[ch]")):
            text = path.read_text(encoding="utf-8")
            tokens = list(tokens_of(text))
            files[str(path.relative_to(ROOT))] = tokens, closing(tokens), text
    builders = find_builders(files)
    bad = sum(check(file, tokens, pairs, builders) for file, (tokens, pairs, _) in files.items())
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
