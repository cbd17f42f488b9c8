#!/usr/bin/env python3
"""Fails on an #include against the order of docs/architecture.md.

Link lines alone do not enforce it: all folders share one include root.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAY_INCLUDE = {
    "include": {"moec"},
    "ir": {"moec", "ir"},
    "frontend": {"moec", "ir", "frontend", "onnx.pb-c.h", "protobuf-c"},
    "passes": {"moec", "ir", "passes"},
    "export": {"moec", "ir", "export"},
    "backend": {"moec", "ir", "backend", "llvm-c", "llvm", "lld"},
    "runtime": {"moec", "runtime", "ir/dtypes.def"},
    "runtime/embed": {"runtime", "backend/runtime_blob.h", "backend/targets.def", "runtime_blob_files.h"},
    "tools": {"moec", "ir", "frontend", "passes", "export", "backend", "tools", "llvm-c"},
    "examples": {"moec"},
    "python": {"moec"},
}
OWN = {"moec", "ir", "frontend", "passes", "export", "backend", "runtime", "tools", "tests",
       "bench", "llvm-c", "llvm", "lld", "onnx.pb-c.h", "protobuf-c"}
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)


def main():
    bad = 0
    for folder, allowed in MAY_INCLUDE.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in {".c", ".h", ".cc", ".def"}:
                continue
            deeper = str(path.parent.relative_to(ROOT))
            if deeper != folder and deeper in MAY_INCLUDE:
                continue  # has a row of its own
            for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
                top = name.split("/")[0]
                if top in OWN and not {top, name} & allowed:
                    print(f"{path.relative_to(ROOT)}: {folder}/ must not include {name}")
                    bad += 1
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
