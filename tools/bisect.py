#!/usr/bin/env python3
"""Finds the first rewrite that makes a command fail.

    tools/bisect.py 'moec m.onnx -o m.so --rewrite-limit={} && moec verify m.so data'

'{}' stands for the number of rewrites that may be made. The command must
succeed with 0 of them and fail with all.
"""
import argparse
import subprocess
import sys


def succeeds(command, limit):
    line = command.replace("{}", str(limit))
    good = subprocess.run(line, shell=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
    print(f"{limit:8d} {'good' if good else 'bad'}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", help="a shell command with {} for the limit")
    parser.add_argument("--max", type=int, default=1 << 24, help="a number above all rewrites (%(default)s)")
    args = parser.parse_args()
    if "{}" not in args.command:
        parser.error("the command has no {}")

    if not succeeds(args.command, 0):
        print("fails without any rewrite: no rewrite is at fault")
        return 1
    good, bad = 0, 1
    while succeeds(args.command, bad):
        good, bad = bad, bad * 4
        if good >= args.max:
            print("succeeds with all rewrites: nothing to find")
            return 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if succeeds(args.command, middle):
            good = middle
        else:
            bad = middle
    print(f"first bad rewrite is number {good}: rerun with --rewrite-limit={bad} --trace-rewrites")
    return 0


if __name__ == "__main__":
    sys.exit(main())
