# SPDX-License-Identifier: MIT
"""Debian's Linux in QEMUs without KVM, parked and served to others.

In it a program verifies memory, another counts on the console and watches the
clocks.  Of precopy only what stands still is asked: TCG's own record of what
a guest wrote is not complete.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qemu
from steps import (assert_same_ram, capabilities, ended, migrate, ram_of,
                   runs)

# Behind: another module of a name that is here, too, is not meant.
sys.path.append(str(Path(__file__).resolve().parents[1] / "linux"))

import debian  # noqa: E402
import inside  # noqa: E402
import tsc  # noqa: E402

qemu.TIMEOUT = 300              # a boot without KVM, on a busy machine

ACCEL = "-accel", "tcg", "-cpu", "max"
RAM_MB = 192
# What the guest settles with: lines that go on, as long as it lives.
ALIVE = r"^TICK \d+ .*\n", r"^PAGES \d+ .*\n"


class Console:
    """All that it has said, wherever that was."""

    dead = None

    def __init__(self, text=""):
        self.text = text

    def feed(self, data):
        self.text += data.decode("latin-1")

    def count(self, pattern):
        return len(re.findall(pattern, self.text, re.M))


@pytest.fixture
def linux(folder):
    """Makes QEMUs with that guest, or for it."""
    qemu.require_qemu()
    initrd = inside.archive(folder / "initrd", redis=False)
    append = ("console=ttyS0 quiet panic=1 "
              f"{tsc.MEASURE_NOTHING}{tsc.tsc_khz()}")
    made = []

    def make(name, *args, log=None):
        made.append(qemu.Qemu(
            folder, name, append, cpus=1, ram_mb=RAM_MB, accel=ACCEL,
            kernel=str(debian.bzimage()), log=log or Console(),
            args=["-initrd", str(initrd), *args]))
        return made[-1]

    yield make
    for vm in made:
        vm.close()


def says(vm, pattern, times=1):
    vm.wait(pattern, lambda: vm.log.count(pattern) >= times)


def ask(vm, word, answer):
    before = vm.log.count(answer)
    vm.type(f"{word}\n")
    says(vm, answer, before + 1)


def goes_on(vm):
    """All that is in it is at work; nothing in there noticed anything."""
    for line in ALIVE:
        says(vm, line, vm.log.count(line) + 3)
    ask(vm, "verify", r"^VERIFIED \d+ 0\r?$")
    ask(vm, "log", r"^DONE log")
    inside.judge(vm.log.text)


def park_it(vm, one, folder, postcopy):
    """Its memory, which is in the image."""
    one.wait_listening()
    vm.qmp("migrate-set-parameters", **{
        "max-bandwidth": 1 << (12 if postcopy else 30),
        "max-postcopy-bandwidth": 0})
    migrate(vm, one.uri)
    if postcopy:        # before anything was sent that could be written again
        vm.qmp("migrate-start-postcopy")
    assert ended(vm, "completed", "failed") == "completed", one.said()
    code, said = one.wait()
    assert code == 0, said
    ram = ram_of(vm, folder, RAM_MB)
    assert_same_ram(one.cat("pc.ram"), ram)
    vm.poll()
    return ram


def serve_it(vm, one, *words, caps=()):
    if caps:
        capabilities(vm, *caps)
    path = vm.output.replace(".log", ".in")
    vm.qmp("migrate-incoming", uri=f"unix:{path}")
    done = subprocess.run(
        [os.environ["FERRY"], "serve", "--quiet", *words, one.image,
         f"unix:{path}"], text=True, timeout=120, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


WAIT = "-incoming", "defer"
PREEMPT = "postcopy-ram", "postcopy-preempt"


def test_a_linux_is_parked_and_goes_on_elsewhere(linux, park, folder):
    """Twice: it stands still and goes by precopy, and is served by postcopy;
    it runs and goes by postcopy, and is served to two."""
    a = linux("a")
    says(a, r"^USERSPACE cpus=1 ")
    for line in ALIVE:
        says(a, line, 5)
    capabilities(a, "return-path")
    a.qmp("stop")
    one = park("--zstd", name="one")
    ram = park_it(a, one, folder, False)

    # Without -S it would run: postcopy ends so in a QEMU.
    b = linux("b", "-S", *WAIT, log=a.log)
    serve_it(b, one, "--preempt", caps=PREEMPT)
    assert not runs(b)
    assert_same_ram(ram_of(b, folder, RAM_MB), ram)
    a.close()
    b.qmp("cont")
    goes_on(b)

    capabilities(b, *PREEMPT)
    two = park("--preempt", name="two")
    park_it(b, two, folder, True)
    told = b.log.text
    b.close()

    ways = {"c": (["--preempt"], PREEMPT), "d": (["--precopy"], ())}
    for name, (words, caps) in ways.items():
        vm = linux(name, *WAIT, log=Console(told))
        serve_it(vm, two, *words, caps=caps)
        vm.wait("it runs", lambda vm=vm: runs(vm))
        goes_on(vm)
        vm.close()
