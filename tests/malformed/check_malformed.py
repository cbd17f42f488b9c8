#!/usr/bin/env python3
"""Gives every malformed model to moec and checks what it says.

For each case: the exit code and words of the table; messages begin with "moec:
error: FILE" and hold no control characters; no output is left behind; no
sanitizer speaks; and for models below 1 MB at most 2 seconds and 2 * size + 256
MiB of memory (sanitizer builds are given more).
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
# Control characters but newline, and marks of writing direction.
UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def run(command, folder, timeout):
    """Returns exit code, messages, seconds and peak memory in bytes."""
    with tempfile.TemporaryFile() as out:
        begin = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out,
                                   stdin=subprocess.DEVNULL)
        deadline = begin + timeout
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid != 0:
                break
            if time.monotonic() > deadline:
                process.kill()
                _, status, usage = os.wait4(process.pid, 0)
                break
            time.sleep(0.002)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="backslashreplace")
    return process.returncode, text, seconds, usage.ru_maxrss * 1024


def complaints(case, moec, folder, slow):
    size = (folder / case["model"]).stat().st_size
    product = folder / case["name"] / "product.so"
    command = [moec, case["model"], "-o", str(product), *case["options"]]
    code, text, seconds, memory = run(command, folder, 30 * slow)
    if code != case["exit"]:
        yield f"exit code {code}, expected {case['exit']}"
    if case["words"] not in text:
        yield f"no words '{case['words']}'"
    if f"moec: error: {case['model']}" not in text:
        yield "no 'moec: error: FILE'"
    if UNPRINTABLE.search(text):
        yield "control characters in messages"
    if "Sanitizer" in text or "runtime error:" in text:
        yield "a sanitizer speaks"
    if product.exists():
        yield "output is left behind"
    if size < 1000000 and seconds > 2 * slow:
        yield f"took {seconds:.1f} s"
    if memory > (2 * size + (256 << 20)) * slow:
        yield f"took {memory >> 20} MiB for a model of {size >> 10} KiB"
    if code != case["exit"] or case["words"] not in text:
        yield f"said: {text.strip()[:600]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moec", required=True, help="the program to check")
    parser.add_argument("--only", default="", help="part of the cases' names")
    parser.add_argument("--slow", type=float, default=1,
                        help="factor on time and memory, for sanitizers")
    args = parser.parse_args()
    moec = str(pathlib.Path(args.moec).resolve())
    failed = 0
    with tempfile.TemporaryDirectory(prefix="moec-malformed-") as name:
        folder = pathlib.Path(name)
        subprocess.run([sys.executable, HERE / "make_malformed.py", name],
                       check=True)
        cases = json.loads((folder / "cases.json").read_text())
        cases = [c for c in cases if args.only in c["name"]]
        for case in cases:
            found = list(complaints(case, moec, folder, args.slow))
            if found:
                failed += 1
                print(f"FAILED {case['name']}: " + "; ".join(found))
    print(f"{len(cases)} cases, {failed} failed")
    if failed:
        print(f"reproduce: {__file__} --moec {args.moec} --only NAME")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
