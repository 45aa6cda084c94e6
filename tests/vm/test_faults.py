# SPDX-License-Identifier: MIT
"""Whatever fails in whatever state: what becomes of the VM.

Two `ferry run` on two hosts (network namespaces), a guest that rewrites and
checks its memory, `ferry migrate` that watches.  A fault comes in a state that
is held; what comes of it is a row of docs/FAULTS.md, which this file writes
(FERRY_RENEW=1) and compares with.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import net as nets
import proxy
from conftest import check_pages
from faultpage import FaultPage
from ferryvm import ENDS, PATIENCE, Vm

SOURCE = Path(os.environ["FERRY_SOURCE"])
GUEST = "cpus=1 mode=random mem=8M report=100"
TIMEOUT_MS = 1000       # of silence
LOOKS_MS = 30000        # for a link that was lost
GOOD_MS = 3000          # the same, when it never comes back
LONG_S = 2.5            # enough to be noticed, not to be given up
LEASE_MS = 1500         # less than the VM is cut off then
PORT = 4711


class Way:
    """A proxy beside the source, in a process of its own."""

    def __init__(self, net):
        self.words = [*net.inside("here"), sys.executable, proxy.__file__,
                      f"tcp:{net.ADDRESS['there']}:{PORT}", str(PORT)]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.words, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.uri = self.process.stdout.readline().strip()

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def kill(self):
        self.process.kill()
        self.process.communicate()


class Stage:
    """The two, what is between them, and the command that moves the VM."""

    def __init__(self, ferry, folder, guest, looks_ms):
        self.ferry, self.folder, self.looks_ms = ferry, folder, looks_ms
        self.net = self.source = self.target = self.way = self.command = None
        self.leased = False
        try:
            self.net = nets.Net()
            self.source = self.vm("a", "here", kernel=guest, append=GUEST)
            self.target = self.vm("b", "there", incoming="tcp:0.0.0.0:"
                                  f"{PORT}")
            self.source.serial.wait(lambda log: log.ready)
        except Exception:
            self.close()
            raise

    def vm(self, name, host, **how):
        return Vm(self.ferry, self.folder, name, vcpus=1, ram="64M",
                  wrapper=self.net.inside(host), extra=self.patience(),
                  **how)

    def patience(self):
        return ["--set", f"x-ferry-timeout={TIMEOUT_MS}",
                "--set", f"x-ferry-recover={self.looks_ms}"]

    def move(self, *words, proxied=False):
        if proxied:
            self.way = Way(self.net)
        uri = self.way.uri if proxied else \
            f"tcp:{self.net.ADDRESS['there']}:{PORT}"
        self.command = subprocess.Popen(
            [self.ferry, "migrate", "a", uri, *self.patience(), *words,
             *(["--set", f"x-ferry-lease={LEASE_MS}"] if self.leased else [])],
            text=True,
            env=dict(os.environ, FERRY_RUNTIME_DIR=str(self.folder)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def close(self):
        for vm in self.source, self.target:
            if vm:
                vm.close()
        if self.command:
            if self.command.poll() is None:
                self.command.kill()
            self.command.communicate()
        if self.way:
            self.way.kill()
        if self.net:
            self.net.close()


@pytest.fixture
def stage(ferry, folder, guest, kvm):
    nets.require()
    stages = []

    def make(looks_ms):
        stages.append(Stage(ferry, folder, guest, looks_ms))
        return stages[-1]

    yield make
    for one in stages:
        one.close()


# ---- states that are held -------------------------------------------------------

SLOWLY = "--precopy", "--limit", "100K"
UNPUSHED = "--postcopy", "--set", "x-ferry-background-push=off"


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def in_active(stage, proxied):
    stage.move(*SLOWLY, proxied=proxied)
    stage.source.wait_migration("active")
    stage.target.wait_migration("active")


def in_device(stage, proxied):
    """The target is ready to run, and the source has not heard of it."""
    stage.move(*SLOWLY, proxied=True)
    stage.source.wait_migration("active")
    stage.target.wait_migration("active")
    stage.way.say("keep loaded")
    stage.source.set({"max-bandwidth": 0})
    stage.source.wait_migration("device")
    stage.target.wait_migration("device")
    stage.way.say("await loaded")


def in_postcopy(stage, proxied):
    stage.move(*UNPUSHED, proxied=proxied)
    stage.source.wait_migration("postcopy-active")
    stage.target.wait_migration("postcopy-active")


def in_paused(stage, proxied):
    in_postcopy(stage, True)
    stage.way.kill()
    stage.source.wait_migration("postcopy-paused")
    until("the target pauses", lambda: stage.target.migration() ==
          "postcopy-paused")
    if not proxied:             # it comes back for the fault to meet
        stage.way.start()


def in_recovery(stage, proxied):
    """The source has found the target, and hears nothing of it."""
    in_paused(stage, True)
    stage.way.start()
    stage.way.say("mute")
    until("recovery begins", lambda: stage.source.migration() in
          ("postcopy-recover-setup", "postcopy-recover"))


def leased(state):
    """The same, and the target runs the VM only while it hears the source."""
    def come(stage, proxied):
        stage.leased = True
        state(stage, proxied)
    return come


STATES = {
    "active": in_active,
    "device": in_device,
    "postcopy-active": in_postcopy,
    "postcopy-paused": in_paused,
    "postcopy-recover-setup": in_recovery,
    "device, with a lease": leased(in_device),
    "postcopy-active, with a lease": leased(in_postcopy),
}


# ---- what fails --------------------------------------------------------------------

def link_down_for_a_while(stage):
    stage.net.down()
    time.sleep(LONG_S)
    stage.net.up()


def link_down_for_good(stage):
    stage.net.down()


def packets_lost_for_a_while(stage):
    stage.net.drop()
    time.sleep(LONG_S)
    stage.net.pass_again()


def answers_lost_for_good(stage):
    """Half open: the target hears, and is not heard."""
    stage.net.drop("there")


def proxy_killed(stage):
    """Another takes its place."""
    if stage.way.process.poll() is None:
        stage.way.kill()
    time.sleep(1)
    stage.way.start()


def source_sleeps(stage):
    stage.source.freeze()
    time.sleep(LONG_S)
    stage.source.signal(signal.SIGCONT)


def target_sleeps(stage):
    stage.target.freeze()
    time.sleep(LONG_S)
    stage.target.signal(signal.SIGCONT)


def source_killed(stage):
    stage.source.kill()


def target_killed(stage):
    stage.target.kill()


FAULTS = {
    # text: (what happens, it needs a proxy, how long they look)
    "the link is down for 2.5 s": (link_down_for_a_while, False, LOOKS_MS),
    "the link is down for good": (link_down_for_good, False, GOOD_MS),
    "packets are lost for 2.5 s": (packets_lost_for_a_while, False, LOOKS_MS),
    "the target's packets are lost for good": (answers_lost_for_good, False,
                                               GOOD_MS),
    "a proxy between them is killed, and replaced": (proxy_killed, True,
                                                     LOOKS_MS),
    "the source is stopped for 2.5 s": (source_sleeps, False, LOOKS_MS),
    "the target is stopped for 2.5 s": (target_sleeps, False, LOOKS_MS),
    "the source is killed": (source_killed, False, GOOD_MS),
    "the target is killed": (target_killed, False, GOOD_MS),
}

# What is like another as far as a lease goes.
WITHOUT_LEASE = ("packets are lost for 2.5 s", "the target's packets are lost "
                 "for good", "a proxy between them is killed, and replaced")


# ---- what comes of it ---------------------------------------------------------------

def let_go(stage):
    """Whatever holds the state holds it no more."""
    if stage.way and stage.way.process.poll() is None:
        stage.way.say("unmute")
    if stage.source.alive():
        stage.source.set({"max-bandwidth": 0,
                          "x-ferry-background-push": True})


def asked(vm, what):
    """Its answer; None of one that is gone, or goes just now."""
    try:
        return what(vm) if vm.alive() else None
    except (OSError, ConnectionError):
        vm.wait_exit()
        return None


def state(vm):
    return asked(vm, lambda vm: vm.migration() or "-") or "gone"


def seeks(vm):
    return asked(vm, lambda vm: vm.qmp("query-migrate").get(
        "x-ferry-recovery", {}).get("seeking"))


def settle(stage):
    """Until nothing more happens by itself: what is paused looks for the link
    as long as it was told to."""
    end = time.monotonic() + stage.looks_ms / 1000 + 2
    both = stage.source, stage.target
    until("both sides settle", lambda: all(
        state(vm) in (*ENDS, "-", "gone") and
        (state(vm) != "postcopy-paused" or
         time.monotonic() > end and not seeks(vm)) for vm in both))


def runs(vm):
    return asked(vm, Vm.status) == "running"


def guest_goes_on(vm):
    """It counts, and every page is right."""
    before = len(vm.log.all("FERRY"))
    vm.serial.wait(lambda log: len(log.all("FERRY")) > before)
    check_pages(vm)


def outcome(stage):
    """In words, after the command has ended."""
    settle(stage)
    code = stage.command.wait(PATIENCE)
    source, target = stage.source, stage.target
    at = [vm for vm in (source, target) if runs(vm)]
    assert len(at) < 2, "two of one VM"
    states = [state(vm) for vm in (source, target)]
    where = "-"
    if source.alive():
        if stage.leased:        # a rollback may have to wait for its end
            until("the lease ends", lambda: source.qmp("query-migrate")
                  ["x-ferry-rollback"] != "later")
        q = source.qmp("query-migrate")
        where = f"{q['x-ferry-where']}, safe: {q['x-ferry-safe']}"
        if stage.leased:
            where += f", rollback: {q['x-ferry-rollback']}"
        if q["x-ferry-where"] == "source":
            assert at == [source]
        if q["x-ferry-where"] in ("split", "target"):
            assert source not in at
    if at and "postcopy-paused" not in states:
        guest_goes_on(at[0])
    runs_at = "source" if source in at else "target" if target in at else "-"
    return f"{code} | {' / '.join(states)} | {where} | {runs_at}"


HEAD = """# Faults

What becomes of a VM when something fails, for each state of the migration in
which it does.  Seen, not derived: `tests/vm/test_faults.py` makes each fault on two hosts
(network namespaces) with a guest under load, writes this page
(`FERRY_RENEW=1`), and fails where it is not true any more.

Both sides give a silent peer up after {timeout} ms here
(`x-ferry-timeout`), and look for a link that was lost for {looks} ms,
for {good} ms where it never comes back (`x-ferry-recover`, by default ten
minutes).  A lease (`x-ferry-lease`) is {lease} ms; *rollback* is what `ferry
rollback --target-is-dead` would rest on then.  *Code* is that of
`ferry migrate`; *states* are the source's and the target's in the end; *runs*
is where the guest runs then (in `postcopy-paused`, until it touches what is
missing).  Where the VM runs and is whole, it counted on and every page was
right.
"""


PAGE = FaultPage(
    SOURCE / "docs/FAULTS.md",
    HEAD.format(timeout=TIMEOUT_MS, looks=LOOKS_MS, good=GOOD_MS,
                lease=LEASE_MS),
    ["code", "states", "as the source knows it", "runs"],
    [(state, fault) for state in STATES for fault in FAULTS
     if "lease" not in state or fault not in WITHOUT_LEASE])


@pytest.mark.parametrize("state, fault", PAGE.some())
def test_a_fault_has_the_outcome_of_the_page(stage, state, fault):
    happens, proxied, looks_ms = FAULTS[fault]
    one = stage(looks_ms)
    STATES[state](one, proxied)
    happens(one)
    let_go(one)
    PAGE.check(state, fault, outcome(one))


def test_the_page_has_all_rows_and_no_others():
    PAGE.check_all()
