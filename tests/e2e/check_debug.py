#!/usr/bin/env python3
"""Checks debug information of compiled models: addresses of code lead to ONNX nodes.

For each case: -g changes no code; two compilations in different folders give the
same bytes; DWARF is valid; each kernel's symbol ends with the name of a node that the
listing has; addresses in kernels have lines of the listing, among them that node's.
"""
import argparse
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

KERNEL = re.compile(r"^(k_\w+?_[0-9a-f]{16})_([\w-]+)\.(.*?)(?:\.x(\d+))?$")


def run(command, **options):
    return subprocess.run([str(c) for c in command], check=True, capture_output=True,
                          text=True, **options).stdout


class Elf:
    def __init__(self, path):
        self.bytes = path.read_bytes()
        offset, = struct.unpack_from("<Q", self.bytes, 40)
        size, n, names = struct.unpack_from("<HHH", self.bytes, 58)
        rows = [struct.unpack_from("<IIQQQQIIQQ", self.bytes, offset + i * size)
                for i in range(n)]
        self.sections = {self.text(rows[names][4] + r[0]): r for r in rows}

    def text(self, at):
        return self.bytes[at:self.bytes.index(b"\0", at)].decode()

    def contents(self, name):
        row = self.sections[name]
        return self.bytes[row[4]:row[4] + row[5]]

    def functions(self):
        """(name, address, size) of each function in the symbol table."""
        strings = self.sections[".strtab"][4]
        for name, info, _, _, value, size in struct.iter_unpack(
                "<IBBHQQ", self.contents(".symtab")):
            if info & 15 == 2 and value != 0:
                yield self.text(strings + name), value, size


def label(node):
    """A node's name as symbols have it."""
    return re.sub(r"[^A-Za-z0-9_./]", "_", node[-64:])


def places(symbolizer, library, addresses):
    """(function, file, line) of each address."""
    text = run([symbolizer, "--obj", library, "--inlining=false"],
               input="".join(f"{a:#x}\n" for a in addresses))
    for block in text.strip().split("\n\n"):
        function, where = block.split("\n")
        file, line, _ = where.rsplit(":", 2)
        yield function, file, int(line)


def check_kernel(symbolizer, library, listing, function):
    """Problems, and how many lines the kernel's code has."""
    name, begin, size = function
    match = KERNEL.match(name)
    if not match:
        return [f"the symbol {name} names no node"], 0
    lines = set()
    for found, file, line in places(symbolizer, library,
                                    range(begin, begin + size, 8)):
        if found != name or file.rsplit("/", 1)[-1] != library.name + ".nodes":
            return [f"{name}: an address is of {found} in {file}"], 0
        lines.add(line)
    if not all(0 <= line <= len(listing) for line in lines):
        return [f"{name}: lines {lines} of {len(listing)}"], 0
    nodes = [listing[line - 1] for line in lines if line > 0]
    if not any(match[3] == label(node) for text in nodes
               for node in re.findall(r'"(.*)"', text) + re.findall(r"\((.*)\)", text)):
        return [f"{name}: its lines are {nodes}"], 0
    return [], len(lines)


def check_case(options, case, scratch):
    model = case / "model.onnx"
    outputs = [scratch / folder / "net.so" for folder in ("a", "b")]
    for output in outputs:
        output.parent.mkdir()
        run([options.moec, model, "-g", "-o", output])
    plain = scratch / "plain.so"
    run([options.moec, model, "-o", plain])
    problems = []
    for suffix in ("", ".nodes"):
        a, b = (pathlib.Path(f"{o}{suffix}").read_bytes() for o in outputs)
        if a != b:
            problems.append(f"two compilations give different bytes of net.so{suffix}")
    without, elf = Elf(plain), Elf(outputs[0])
    if any(name.startswith(".debug") for name in without.sections):
        problems.append("debug information without -g")
    if without.contents(".text") != elf.contents(".text"):
        problems.append("-g changes code")
    verify = subprocess.run([options.dwarfdump, "--verify", outputs[0]],
                            capture_output=True, text=True)
    if verify.returncode != 0:
        problems.append(verify.stdout)
    listing = pathlib.Path(f"{outputs[0]}.nodes").read_text().splitlines()
    kernels = [f for f in elf.functions() if f[0].startswith("k_")]
    most = 0
    for kernel in kernels:
        bad, n = check_kernel(options.symbolizer, outputs[0], listing, kernel)
        problems += bad
        most = max(most, n)
    if most < 2:
        problems.append(f"no kernel of {len(kernels)} has code of several nodes")
    schedule = [f for f in elf.functions() if re.match(r"run_\d+$", f[0])]
    seen = {line for f in schedule for _, _, line in places(
        options.symbolizer, outputs[0], range(f[1], f[1] + f[2], 8))}
    # the variants of a kernel are one; nodes of a layer may have become one, too
    kinds = {re.sub(r"_[^_.]*(\..*)?$", "", name) for name, *_ in kernels}
    if len(seen) < len(kinds) // 3:
        problems.append(f"the schedule has {len(seen)} lines, "
                        f"with {len(kinds)} kernels")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("moec", "symbolizer", "dwarfdump"):
        parser.add_argument("--" + name, required=True, type=pathlib.Path)
    parser.add_argument("cases", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    bad = 0
    for case in options.cases:
        with tempfile.TemporaryDirectory() as scratch:
            problems = check_case(options, case, pathlib.Path(scratch))
        for problem in problems:
            print(f"{case.name}: {problem}")
        bad += bool(problems)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
