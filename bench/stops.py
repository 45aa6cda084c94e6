# SPDX-License-Identifier: MIT
"""When the machine itself stood still.

A virtual machine that uses more CPU than it may is stopped by its host, all
cores at once, for tens of ms out of each 100.  A guest inside feels that as a
stall, and no VMM can help it.  Nor does the kernel tell.  So a process that is
ahead of all others looks at the clock again and again: what it misses, nobody
had.  A process, for a thread would wait for this one's interpreter."""

import os
import subprocess
import sys
import time

EVERY_S = 0.002
STOP_MS = 10.0


class Stops:
    """Watches from its creation until close(); sees nothing where it may not
    have the priority."""

    def __init__(self):
        self.seen = []          # (from, to) in ns of CLOCK_MONOTONIC
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def within_ms(self, from_ns, to_ns):
        """How long it stood still in this time, together; once closed."""
        return sum(max(0, min(end, to_ns) - max(begin, from_ns))
                   for begin, end in self.seen) / 1e6

    def close(self):
        self.process.terminate()
        said, _ = self.process.communicate()
        self.seen = [tuple(map(int, line.split()))
                     for line in said.splitlines()]

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


def watch():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    except OSError:
        print("no", flush=True)
        return
    print("watching", flush=True)
    parent, last = os.getppid(), time.monotonic_ns()
    while os.getppid() == parent:
        time.sleep(EVERY_S)
        now = time.monotonic_ns()
        if now - last > STOP_MS * 1e6:
            print(last, now, flush=True)
        last = now


if __name__ == "__main__":
    watch()
