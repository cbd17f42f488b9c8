#!/usr/bin/env python3
"""Gives every malformed model to moec and checks what it says.

For each case: the exit code and words of the table; messages begin with "moec:
error: FILE" and hold no control characters; no output is left behind; no
sanitizer speaks; for models below 1 MB at most 2 seconds; at most 2 * size + 256
MiB of memory (sanitizer builds are given more, and so are models of many nodes).
What compiles is run where the table says on what.
"""

import argparse
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time

NODE_BYTES = 20 << 10  # of code, while it is generated
HERE = pathlib.Path(__file__).resolve().parent
# Control characters but newline, and marks of writing direction.
# Not its warning that there is no memory.
SANITIZER = re.compile("ERROR: \\w+Sanitizer|runtime error:")
UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def environment():
    """Memory that there is not is a NULL pointer, also under AddressSanitizer."""
    options = [os.environ.get("ASAN_OPTIONS"), "allocator_may_return_null=1"]
    return dict(os.environ, ASAN_OPTIONS=":".join(filter(None, options)))


def run(command, folder, timeout):
    """Returns exit code, messages, seconds of processor time and peak memory in
    bytes."""
    with tempfile.TemporaryFile() as out:
        begin = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out,
                                   stdin=subprocess.DEVNULL,
                                   env=environment())
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
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read().decode(errors="backslashreplace")
    seconds = usage.ru_utime + usage.ru_stime
    return process.returncode, text, seconds, usage.ru_maxrss * 1024


def npy_bytes(path):
    """The elements of a .npy file."""
    data = path.read_bytes()
    return data[10 + int.from_bytes(data[8:10], "little"):]


def same_bytes(found, wanted):
    """NaN may have any bits: compared as float32 where they are some."""
    if found == wanted or len(found) != len(wanted) or len(found) % 4 != 0:
        return found == wanted
    pairs = zip(struct.iter_unpack("<f", found), struct.iter_unpack("<f", wanted))
    return all(a == b or (a[0] != a[0] and b[0] != b[0]) for a, b in pairs)


def complaints_of_run(case, moec, folder, product, slow):
    """Runs what was compiled."""
    wanted, out = case["run"], folder / case["name"] / "out"
    out.mkdir()
    code, text, seconds, _ = run(
        [moec, "run", str(product), "--data", str(folder / case["name"]),
         "--output-dir", str(out), "--output-format=npy"], folder, 30 * slow)
    codes = wanted["exit"]
    if code not in (codes if isinstance(codes, list) else [codes]):
        yield f"the run ends with {code}, expected {codes}"
    if code != 0 and "moec: error: " not in text:
        yield "the run has no 'moec: error: '"
    if wanted["words"] not in text:
        yield f"the run has no words '{wanted['words']}'"
    if SANITIZER.search(text):
        yield "a sanitizer speaks"
    if seconds > 2 * slow:
        yield f"the run took {seconds:.1f} s"
    for i, data in enumerate(wanted["outputs"]):
        path = out / f"output_{i}.npy"
        if not path.exists():
            yield f"no output {i}"
        elif not same_bytes(npy_bytes(path), bytes.fromhex(data)):
            yield f"output {i} is {npy_bytes(path).hex()}, expected {data}"


def complaints(case, moec, folder, slow):
    size = (folder / case["model"]).stat().st_size
    product = folder / case["name"] / "product.so"
    command = [moec, case["model"], "-o", str(product), *case["options"]]
    code, text, seconds, memory = run(command, folder, 120 * slow)
    if code not in case["exit"]:
        yield f"exit code {code}, expected {case['exit']}"
    if case["words"] not in text:
        yield f"no words '{case['words']}'"
    if code != 0 and f"moec: error: {case['model']}" not in text:
        yield "no 'moec: error: FILE'"
    if UNPRINTABLE.search(text):
        yield "control characters in messages"
    if SANITIZER.search(text):
        yield "a sanitizer speaks"
    if code != 0 and product.exists():
        yield "output is left behind"
    if size < 1000000 and seconds > (2 + 0.001 * case["nodes"]) * slow:
        yield f"took {seconds:.1f} s"
    most = 2 * size + (256 << 20) + case["nodes"] * NODE_BYTES
    if memory > most * slow:
        yield f"took {memory >> 20} MiB for a model of {size >> 10} KiB"
    if code == 0 and case["run"] is not None:
        yield from complaints_of_run(case, moec, folder, product, slow)
    if code not in case["exit"] or case["words"] not in text:
        yield f"said: {text.strip()[:600]}"
    product.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moec", required=True, help="the program to check")
    parser.add_argument("--only", default="", help="pattern of the names of cases")
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
        cases = [c for c in cases if re.match(args.only, c["name"])]
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
