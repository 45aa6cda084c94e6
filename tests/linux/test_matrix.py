# SPDX-License-Identifier: MIT
"""Every kernel, every number of vCPUs, every kind of migration, within a host
and over a network that delays and loses.  For scripts/soak: it takes long."""

import pytest

import tour

TC = "/usr/sbin/tc"
NETEM = "netem delay 5ms 1ms loss 0.5%"
# Of a guest that writes as much as such a network carries.
WAYS = "--precopy --max-pause 5s", "--passes 1", "--postcopy"


@pytest.fixture
def bad_network(hosts):
    """One that is slow and loses packets, in both directions."""
    for host in hosts:
        host(f"{TC} qdisc add dev eth0 root {NETEM}")


@pytest.mark.parametrize("vcpus", [1, 2])
@pytest.mark.parametrize("kernel", ["/vmlinux", "/bzimage"])
@pytest.mark.usefixtures("bad_network")
def test_a_guest_travels_every_way(here, there, kernel, vcpus):
    guest = tour.boot(here, "start", kernel, vcpus)
    guest.settled()
    for i, way in enumerate(WAYS):
        near = f"unix:/tmp/road{i}"
        guest.move(guest.prepare(guest.vm.host, f"near{i}", near), near, way)
        to = there if guest.vm.host is here else here
        address = f"tcp:10.0.0.{1 if to is here else 2}:{5000 + i}"
        guest.move(guest.prepare(to, f"far{i}", f"tcp:0.0.0.0:{5000 + i}"),
                   address, way)
        guest.check()
    guest.end()
