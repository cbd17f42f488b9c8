"""Runs a command and prints what it took as JSON: `measured.py COMMAND...`.

A process of its own that imports next to nothing, because the peak memory that the
system reports for a child begins with that of the process it was forked from."""

import os
import sys
import time


def main():
    start = time.perf_counter()
    child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    print('{"status": %d, "seconds": %.6f, "cpu_seconds": %.6f, '
          '"peak_bytes": %d}' % (
              os.waitstatus_to_exitcode(status), seconds,
              usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024))


main()
