# SPDX-License-Identifier: MIT
"""Debian's kernel and a Redis, moved while they run: within a host, and from
host to host over a network that has its bad moments."""

import re

import tour

TC = "/usr/sbin/tc"
ENDS = "completed", "failed", "cancelled", "postcopy-paused"
FAR = "netem delay 400ms"        # one round trip after the other
NETEM = "netem delay 5ms 1ms loss 0.5%"
# How long the guest stands still is not what is asked here; without a limit a
# host that has to wait for its CPU does not get it over.
PRECOPY = "--precopy --max-pause 5s"


def test_vmlinux_with_two_vcpus_travels(here, there):
    """Precopy in one host; by postcopy to the other, over a slow and lossy
    network, while links go down and up: one while both sides agree, one when
    the guest runs there; back by precopy, with another one."""
    guest = tour.boot(here, "a", "/vmlinux", 2)
    guest.settled()
    guest.move(guest.prepare(here, "b", "tcp:127.0.0.1:4444"),
               "tcp:127.0.0.1:4444", PRECOPY)

    c = guest.prepare(there, "c", "tcp:0.0.0.0:4444")
    here("ping -c 1 10.0.0.2")
    for end in here, there:
        end(f"{TC} qdisc add dev eth0 root {FAR}")
    begin(guest.vm, "tcp:10.0.0.2:4444 --postcopy")
    connected(c, 4444)
    blink(there)
    for end in here, there:
        end(f"{TC} qdisc change dev eth0 root {NETEM}")
    reach(guest.vm, c, "postcopy-active", "completed")
    for end in here, there:
        end(f"{TC} qdisc del dev eth0 root")
    blink(here)
    reach(guest.vm, c, "completed")
    guest.arrive(c)

    d = guest.prepare(here, "d", "tcp:0.0.0.0:4445")
    begin(guest.vm, f"tcp:10.0.0.1:4445 {PRECOPY} --limit 10M")
    reach(guest.vm, d, "active")
    blink(there)
    assert state(guest.vm) == "active"
    reach(guest.vm, d, "completed")
    guest.arrive(d)
    guest.check()
    guest.end()


def begin(vm, words):
    code, said = vm.ferry(f"migrate {vm.path}.qmp {words} "
                          f"{tour.PATIENT} --detach")
    assert code == 0, said


def state(vm):
    code, said = vm.status()
    assert code == 0, f"{said}\n{vm.errors()}"
    return said["migration"]["status"]


def reach(vm, to, *states):
    """Wait until the migration from vm to the other is in one of these."""
    def look():
        now = state(vm)
        assert now in states or now not in ENDS, \
            f"{now}\n{vm.status()[1]['migration'].get('error-desc')}\n" \
            f"{vm.errors()}\n{to.errors()}"
        return now in states or None
    vm.until(f"state {states}", look)


def connected(vm, port):
    """Wait until the one who listens has a connection: to a link that is down
    in the middle of TCP's handshake Linux says no more, and then RST."""
    there = f"grep -q ':{port:04X} [0-9A-F:]* 01 ' /proc/net/tcp"
    vm.until("a connection", lambda: vm.host.run(there)[0] == 0 or None)


def blink(where, seconds=2):
    where(f"ip link set eth0 down; sleep {seconds}; ip link set eth0 up")
