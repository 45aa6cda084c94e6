# SPDX-License-Identifier: MIT
"""A VM with a network and a disk of others' processes is moved, and one of all
those processes is killed, or the link is cut, in a phase that is held until
that is seen.  What comes of it is a row of docs/VHOST-FAULTS.md, which this
file writes (FERRY_RENEW=1) and compares with.

The guest holds each block that it reads against what it wrote last, counts
answers of the network, and verifies its memory in the end.  FERRY_PACKED=1:
with packed rings.
"""

import os
import time
from pathlib import Path

import pytest

from conftest import has
from faultpage import FaultPage
from ferryvm import ENDS, PATIENCE, Vm
from proxy import Road, hang_up
from test_ferry_run import goes_on
from test_qemu import disk

BUSY = "cpus=2 mode=random rate=4M mem=16M net=echo disk=8 report=100"
SILENCE_MS = 60000      # nobody is given up for that
LOOKS_MS = 60000        # for a link that is mended
GOOD_MS = 1000          # the same, when it never comes back
CRAWL = {"max-bandwidth": 100_000}
ASKED_ONLY = {"x-ferry-background-push": False}
FULL_SPEED = {"max-bandwidth": 0, "x-ferry-background-push": True}
RINGS = ["packed=on"] if os.environ.get("FERRY_PACKED") else []
KINDS = {"network": ("net", "NET", "got"), "disk": ("blk", "DISK", "reads")}


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


class Link(Road):
    """It can be cut: all that is open ends, and nobody gets through."""

    is_cut = False

    def cut(self):
        self.is_cut = True
        self.await_look()

    def mend(self):
        self.is_cut = False

    def passes(self, sock, data):
        return b"" if self.is_cut else super().passes(sock, data)

    def hears(self, sock):
        if not self.is_cut:
            return super().hears(sock)
        hang_up(sock)           # and it is heard that it has
        return True


class Stage:
    """The two VMs, their backends, and the link between them."""

    def __init__(self, backend, make_vm, folder, looks_ms):
        self.path = disk(folder)
        self.backend = backend
        self.ends = {side: {kind: self.begin(side, kind) for kind in KINDS}
                     for side in ("source", "target")}
        self.source = make_vm("source", self.options("source", looks_ms), BUSY)
        self.target = make_vm("target", self.options("target", looks_ms),
                              incoming="tcp:127.0.0.1:0")
        self.link = Link(self.target.address())
        for _, word, key in KINDS.values():
            goes_on(self.source, word, key, 5)

    def begin(self, side, kind):
        program = KINDS[kind][0]
        words = ("--mode", "echo") if kind == "network" else \
            ("--disk", self.path)
        return self.backend(program, f"{kind}-{side}", *words)

    def options(self, side, looks_ms):
        return [*(has(one, *RINGS) for one in self.ends[side].values()),
                ("--set", f"x-ferry-timeout={SILENCE_MS}"),
                ("--set", f"x-ferry-recover={looks_ms}")]

    def vms(self):
        return {"source": self.source, "target": self.target}


# ---- phases that are held ---------------------------------------------------

def in_setup(stage):
    """The target has answered, and the source has not heard it."""
    stage.link.mute()
    stage.source.migrate(stage.link.uri, "precopy")
    until("an answer", lambda: stage.target.qmp("query-migrate")["ram"]
          ["transferred"])
    stage.source.wait_migration("setup")


def in_active(stage):
    stage.source.migrate(stage.link.uri, "precopy", CRAWL)
    both_are(stage, "active")


def in_active_before_postcopy(stage):
    stage.source.migrate(stage.link.uri, "precopy+postcopy", CRAWL)
    both_are(stage, "active")


def in_device(stage):
    """The target is ready to run, and the source has not heard of it."""
    stage.link.keep_loaded()
    stage.source.migrate(stage.link.uri, "precopy")
    stage.link.await_loaded()
    both_are(stage, "device")


def in_postcopy(stage):
    stage.source.migrate(stage.link.uri, "postcopy", ASKED_ONLY)
    both_are(stage, "postcopy-active")
    stage.target.serial.wait(lambda log: log.last("DISK"))


def in_paused(stage):
    in_postcopy(stage)
    stage.link.cut()
    for vm in stage.vms().values():
        until("a pause", lambda vm=vm: vm.migration() == "postcopy-paused")


def in_completed(stage):
    stage.source.migrate(stage.link.uri, "postcopy")
    both_are(stage, "completed")


def both_are(stage, what):
    for vm in stage.vms().values():
        vm.wait_migration(what)


PHASES = {
    "setup": in_setup,
    "active": in_active,
    "active, and postcopy is to follow": in_active_before_postcopy,
    "device": in_device,
    "postcopy-active": in_postcopy,
    "postcopy-paused": in_paused,
    "completed": in_completed,
}


# ---- what fails -------------------------------------------------------------

class Backend:
    """One is killed.  Another takes its place at once, or in the end."""

    cuts = False

    def __init__(self, side, kind, at_once):
        self.side, self.kind, self.at_once = side, kind, at_once

    def happens(self, stage):
        one = stage.ends[self.side][self.kind]
        one.kill()
        stage.vms()[self.side].wait_said(one.socket)
        if self.at_once:
            self.begins_again(stage)

    def begins_again(self, stage):
        stage.ends[self.side][self.kind] = stage.begin(self.side, self.kind)
        if stage.vms()[self.side].alive():
            stage.vms()[self.side].wait_said("is back")

    def ends(self, stage):
        if not self.at_once:
            self.begins_again(stage)


class Vmm:
    """One is killed; with it go its connections."""

    cuts = True

    def __init__(self, side):
        self.side = side

    def happens(self, stage):
        stage.vms()[self.side].kill()
        stage.link.cut()

    def ends(self, stage):
        pass


class Cut:
    """For good."""

    cuts = True
    side = None

    def happens(self, stage):
        stage.link.cut()

    def ends(self, stage):
        pass


def backends():
    for side in "source", "target":
        for kind in KINDS:
            yield (f"the {side}'s {kind} is killed, and started again",
                   Backend(side, kind, True))
            yield (f"the {side}'s {kind} is killed, and stays away",
                   Backend(side, kind, False))


FAULTS = {
    **dict(backends()),
    "the source is killed": Vmm("source"),
    "the target is killed": Vmm("target"),
    "the link is cut": Cut(),
}


# ---- what comes of it -------------------------------------------------------

def let_go(stage, fault):
    """Whatever holds the phase holds it no more."""
    if not fault.cuts:
        stage.link.mend()
        stage.link.unmute()
    if stage.source.alive():
        stage.source.set(FULL_SPEED)


def asked(vm, what):
    """Its answer; None of one that is gone, or goes just now."""
    try:
        return what(vm) if vm.alive() else None
    except (OSError, ConnectionError):
        vm.wait_exit()
        return None


def told(vm):
    """What it says of the migration, at one time; of one that is gone that."""
    return asked(vm, lambda vm: vm.qmp("query-migrate")) or {"status": "gone"}


def is_over(now, fault):
    """A pause ends by itself, but if nobody is there to be found."""
    if now["status"] == "postcopy-paused":
        return fault.cuts and not now.get("x-ferry-recovery", {}) \
            .get("seeking")
    return now["status"] in (*ENDS, "gone")


def settled(stage, fault):
    """What both say in the end.  A target that has failed goes; one whose
    source did not come so far waits for another."""
    end = time.monotonic() + PATIENCE
    while True:
        source, target = told(stage.source), told(stage.target)
        if is_over(source, fault) and target["status"] != "failed" and \
                (is_over(target, fault) or target["status"] == "setup"):
            return source, target
        assert time.monotonic() < end, (source, target)
        time.sleep(0.01)


def runs(vm):
    return asked(vm, Vm.status) == "running"


def is_right(stage, vm):
    """Its devices work, its memory and its disk are what they should be; then
    it ends, and its backends gave back all that they took."""
    for _, word, key in KINDS.values():
        goes_on(vm, word, key, 20)
    found = vm.serial.ask("v", "VERIFIED")
    assert found["bad"] == 0 and found["pages"] > 0, found.text
    drive, net = vm.log.last("DISK"), vm.log.last("NET")
    assert drive["bad"] == drive["errors"] == net["bad"] == 0, drive.text
    for one in stage.vms().values():
        assert not one.log.bad and not one.log.all("DISKBAD")
    vm.serial.ask("q", "DONE")
    vm.wait_exit()
    for one in stage.ends[vm.name].values():
        figures = one.end()
        assert figures["popped"] == figures["pushed"], one.said()
        assert not figures["broken"], one.said()


def outcome(stage, fault):
    """In words."""
    at_source, at_target = settled(stage, fault)
    for now, vm in zip((at_source, at_target), stage.vms().values()):
        if now.get("x-ferry-where") == ("source" if vm is stage.source
                                        else "target"):
            until(f"the {vm.name} runs", lambda vm=vm: runs(vm))
    at = [vm for vm in stage.vms().values() if runs(vm)]
    assert len(at) < 2, "two of one VM"
    states = [at_source["status"], at_target["status"]]
    where = "-"
    if stage.source.alive():
        where = at_source["x-ferry-where"]
        if where in ("split", "target"):
            assert stage.source not in at
        if states[0] == "failed" and isinstance(fault, Backend):
            why = at_source["error-desc"]
            assert stage.ends[fault.side][fault.kind].socket in why, why
            assert "away" in why, why
        where += f", safe: {at_source['x-ferry-safe']}"
    fault.ends(stage)
    nobody_else_died(stage, fault)
    if at and "postcopy-paused" not in states:
        is_right(stage, at[0])
    for end in stage.ends.values():
        for one in end.values():
            if one.process.poll() is None:
                one.end()
    return f"{' / '.join(states)} | {where} | " + \
        (at[0].name if at else "-")


def nobody_else_died(stage, fault):
    """Backends outlive their VMs, in whatever phase those end."""
    for side, vm in stage.vms().items():
        if not isinstance(fault, Vmm) or fault.side != side:
            assert vm.process.poll() in (None, 0, 1), vm.stderr()
        for one in stage.ends[side].values():
            assert one.process.poll() is None, one.said()


HEAD = """# Faults of a VM with vhost-user devices

What becomes of a VM with a network and a disk of other processes
(ferry-vhost-net, ferry-vhost-blk; [VHOST.md](VHOST.md)) when one of all those
processes is killed while it moves, or the link is cut.  Seen, not derived:
`tests/vhost/test_ferry_kill.py` holds each phase until the fault is seen, lets
it go on, writes this page (`FERRY_RENEW=1`), and fails where it is not true any
more.  [FAULTS.md](FAULTS.md) says the same of what is between two hosts.

*Started again*: before the phase goes on.  *Stays away*: until both sides have
come to their end; then it is started again, too.  The link is cut for good; it
is looked for {good} ms (`x-ferry-recover`).  *States* are the source's and the
target's in the end; *gone* is a process that has ended.  *Runs* is where the
guest runs then; in `postcopy-paused`, until it touches what is missing.  Where
the VM is whole both devices work in the end, each block of the disk and each
page of memory is what the guest wrote last, nothing runs twice, and nobody but
who was killed has died.
"""


PAGE = FaultPage(
    Path(os.environ["FERRY_SOURCE"], "docs/VHOST-FAULTS.md"),
    HEAD.format(good=GOOD_MS), ["states", "as the source knows it", "runs"],
    [(phase, fault) for phase in PHASES for fault in FAULTS
     if (phase, fault) != ("completed", "the link is cut")])


@pytest.fixture
def stage(backend, make_vm, folder):
    made = []

    def make(looks_ms):
        made.append(Stage(backend, make_vm, folder, looks_ms))
        return made[-1]

    yield make
    for one in made:
        one.link.close()
        one.path.unlink()


@pytest.mark.parametrize("phase, fault", PAGE.some())
def test_a_fault_has_the_outcome_of_the_page(stage, phase, fault):
    what = FAULTS[fault]
    one = stage(GOOD_MS if what.cuts else LOOKS_MS)
    PHASES[phase](one)
    what.happens(one)
    let_go(one, what)
    PAGE.check(phase, fault, outcome(one, what))


def test_the_page_has_all_rows_and_no_others():
    PAGE.check_all()
