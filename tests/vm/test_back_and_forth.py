# SPDX-License-Identifier: MIT
"""One busy VM, two processes, and back again: no bad page, no leak, no hang.

FERRY_ROUNDS is how often each mode is taken (scripts/soak: 50).
"""

import os
import time
from pathlib import Path

import pytest

from conftest import GUEST, check_pages

ROUNDS = int(os.environ.get("FERRY_ROUNDS", "10"))
SETTLED = 4             # by then caches and pools have what they will have

MIB = 1 << 20


class Swing:
    """Moves the VM to the other process, and keeps count of both.
    incoming: a URI; {name} is put in."""

    def __init__(self, a, b, incoming="tcp:127.0.0.1:0"):
        self.here, self.there = a, b
        self.incoming = incoming
        self.costs = {a.name: [], b.name: []}
        self.patient = True

    def move(self, mode, settings=()):
        here, there = self.here, self.there
        if there.status() != "inmigrate":
            there.qmp("migrate-incoming", uri=self.incoming.format(
                name=there.name))
        there.serial.renew()
        here.migrate(there, mode, settings)
        here.wait_migration("completed")
        there.wait_migration("completed")
        assert here.status() == "postmigrate"
        assert there.status() == "running"
        self.here, self.there = there, here
        for vm in (here, there):
            self.costs[vm.name].append(self.cost(vm))

    def cost(self, vm):
        """What it just closes still counts for a moment: as soon as that is no
        more than when it had this role before, or never."""
        before = self.costs[vm.name][SETTLED:][len(self.costs[vm.name]) % 2::2]
        deadline = time.monotonic() + 20
        while True:
            now = {"fds": vm.fds(), "threads": vm.threads()}
            if all(now[what] <= min(cost[what] for cost in before)
                   for what in now if before) or not self.patient:
                return {**now, **vm.memory()}
            self.patient = time.monotonic() < deadline
            time.sleep(0.005)

    def check_flat(self, ram_bytes):
        """Between round SETTLED and the last one of each process, which is
        source and target in turn."""
        for name, costs in self.costs.items():
            early, late = costs[SETTLED:SETTLED + 4], costs[-4:]
            for what in "fds", "threads":
                for role in range(2):
                    before = min(cost[what] for cost in early[role::2])
                    after = min(cost[what] for cost in late[role::2])
                    assert after <= before, (name, what, costs)
            before = max(cost["own"] for cost in early)
            after = max(cost["own"] for cost in late)
            assert after <= before + 2 * MIB, (name, costs)
            assert max(c["guest"] for c in costs) <= ram_bytes


def test_the_busy_guest_goes_back_and_forth(pair):
    a, b = pair(ram="128M")
    swing = Swing(a, b)
    for mode in ["postcopy", "precopy"] * ROUNDS:
        swing.move(mode)
        assert check_pages(swing.here)["tsc_back"] == 0
    swing.check_flat(128 * MIB)
    for name, costs in swing.costs.items():
        print(f"{name}: round {SETTLED}: {costs[SETTLED]}, "
              f"round {len(costs)}: {costs[-1]}")


@pytest.mark.sanitize
def test_every_mode_in_turn(pair):
    a, b = pair(ram="64M")
    swing = Swing(a, b)
    for mode in ["precopy+postcopy", "postcopy", "precopy"] * 2:
        swing.move(mode)
        check_pages(swing.here)


@pytest.mark.parametrize("vcpus", [1, 4])
def test_any_number_of_vcpus_moves(pair, vcpus):
    a, b = pair(ram="64M", vcpus=vcpus,
                append=GUEST.replace("cpus=2", f"cpus={vcpus}"))
    swing = Swing(a, b)
    for mode in ["postcopy", "precopy", "precopy+postcopy", "postcopy"]:
        swing.move(mode)
        check_pages(swing.here)


@pytest.mark.parametrize("incoming", ["unix:/{name}", "tcp:[::1]:0"])
def test_it_moves_by_other_roads(pair, folder, incoming):
    if "::1" in incoming and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 on this host")
    incoming = incoming.replace("unix:", f"unix:{folder}")
    a, b = pair(ram="64M", incoming=incoming.format(name="b"))
    swing = Swing(a, b, incoming)
    for mode in ["precopy", "postcopy", "precopy+postcopy"]:
        swing.move(mode)
        check_pages(swing.here)


@pytest.mark.parametrize("shared", ["both", "one"])
def test_shared_memory_moves(make_vm, guest, shared):
    """As memfds, and between a memfd and anonymous memory."""
    shape = {"ram": "64M", "vcpus": 2}
    memfd = ["--shared"]
    a = make_vm("a", kernel=guest, append=GUEST, extra=memfd,
                **shape)
    a.serial.wait(lambda log: log.ready)
    b = make_vm("b", incoming="tcp:127.0.0.1:0",
                extra=memfd if shared == "both" else [], **shape)
    for vm, has in (a, True), (b, shared == "both"):
        maps = Path(f"/proc/{vm.process.pid}/maps").read_text()
        assert ("/memfd:pc.ram" in maps) == has
    swing = Swing(a, b)
    for mode in ["precopy", "postcopy", "precopy+postcopy", "postcopy"]:
        swing.move(mode)
        check_pages(swing.here)


def test_as_many_channels_as_there_may_be_come_at_the_same_time(pair):
    a, b = pair(ram="64M")
    swing = Swing(a, b)
    for mode in ["precopy", "postcopy"]:
        swing.move(mode, {"multifd-channels": 64,
                          "x-ferry-urgent-channels": 8})
        check_pages(swing.here)


def test_huge_pages_move(pair, huge_pages):
    huge_pages(64)
    a, b = pair(ram="64M", extra=["--hugepages", "2M"])
    swing = Swing(a, b)
    for mode in ["precopy", "postcopy", "precopy+postcopy", "postcopy"]:
        swing.move(mode)
        check_pages(swing.here)
