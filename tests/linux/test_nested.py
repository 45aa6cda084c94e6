# SPDX-License-Identifier: MIT
"""scripts/nested: a shell in which README's own-kernel example works, also
where KVM emulates kernels."""

import os
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from host import LIMIT_S

SOURCE = Path(__file__).resolve().parents[2]
SKIPPED = 77


class Shell:
    """What a person sees and types."""

    def __init__(self):
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [SOURCE / "scripts/nested", "--no-setup"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.seen = ""

    def wait(self, pattern):
        deadline = time.monotonic() + LIMIT_S
        while not re.search(pattern, self.seen):
            assert time.monotonic() < deadline, self.seen[-3000:]
            if not select.select([self.process.stdout], [], [], 1)[0]:
                continue
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data and self.process.wait() == SKIPPED:
                pytest.skip(self.seen)
            assert data, self.seen[-3000:]
            self.seen += data.decode("latin-1")

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def close(self):
        """QEMU is a child that ends when nobody types any more."""
        self.process.stdin.close()
        self.process.wait(timeout=LIMIT_S)


@pytest.fixture
def shell():
    opened = Shell()
    yield opened
    if opened.process.poll() is None:
        opened.type("\x01x")            # Ctrl-A X
        opened.close()


def readmes_commands():
    """Those that run, wait for and move the VM; \\ at the end of a line."""
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    text = text[text.index("## Migrate your own kernel"):].replace("\\\n", "")
    return re.findall(r"^ {4}(build/ferry (?:run|migrate) .*)$", text, re.M)


def steps(shell):
    """Some are missing: the shell writes into the same terminal."""
    return [int(n) for n in re.findall(r"step (\d+)\b", shell.seen)]


def test_a_linux_counts_and_moves(shell):
    shell.wait(r"# ")
    shell.type("ferry doctor | grep kvm-kernel-mode")
    shell.wait(r"ok +kvm-kernel-mode +runs on the CPU")
    here, there, move = readmes_commands()
    shell.type(f"{here} </dev/null &")
    shell.type(f"{there} </dev/null &")
    shell.wait(r"waiting for the VM at")
    shell.wait(r"step [2-9]\b")
    shell.type(move)
    shell.wait(r"web is at tcp:127\.0\.0\.1:4444; \d+ ms")
    last = steps(shell)[-1]
    shell.wait("|".join(rf"step {last + n}\b" for n in (2, 3, 4)))
    said = steps(shell)
    assert said == sorted(set(said))
    shell.type("exit")
    assert shell.process.wait(timeout=LIMIT_S) == 0
