# SPDX-License-Identifier: MIT
"""What runs in the Linux guest (guest/), and what is made of its console.

The serial port's output at each stay, end to end, is what the guest said, with
no character lost or twice.
"""

import os
import re
from pathlib import Path

import pytest

import debian

HERE = Path(__file__).parent
BUILD = Path(os.environ["FERRY_BUILD"]).resolve()
TAIL = 3000             # characters of a console that are shown

# In the order in which they can be loaded.
VIRTIO = ["virtio_ring", "virtio", "virtio_mmio", "failover", "net_failover",
          "virtio_net", "virtio_blk"]

# Not: that the guest distrusts its TSC.  A host in a QEMU does so, too (it
# takes an AMD CPU without constant TSC for what it looks like), and KVM then
# bends it.
TROUBLE = re.compile(r".*(?:soft lockup|hard LOCKUP|detected stall|blocked for more"
                     r"|\bBUG\b|Oops|WARNING:|Call Trace|segfault|^BAD).*",
                     re.M)
TICK = re.compile(r"^TICK (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)\r?$", re.M)


def built(name):
    path = BUILD / name
    if not path.exists():
        pytest.skip(f"{name} is not in this build: no static libraries")
    return path.read_bytes()


def archive(path, redis=True):
    """The initramfs of the guest."""
    programs = ["clock", "pages"]
    files, more = {}, {}
    if redis:
        server = debian.redis_server()
        programs.append("askredis")
        files["bin/redis-server"] = server.read_bytes()
        more = debian.libraries(server)
    files["init"] = (HERE / "guest/init").read_bytes()
    files["bin/busybox"] = debian.busybox().read_bytes()
    for name in programs:
        files[f"bin/{name}"] = built(f"tests/linux/{name}")
    files = {name: (0o755, data) for name, data in files.items()}
    return debian.initramfs(path, files | more)


def devices(path):
    """That of the guest whose network and disk are virtio devices."""
    files = {"init": (HERE.parent / "vhost/guest.sh").read_bytes(),
             "bin/busybox": debian.busybox().read_bytes(),
             "modules/order": " ".join(VIRTIO).encode()}
    for name in VIRTIO:
        files[f"modules/{name}.ko"] = debian.module(name).read_bytes()
    return debian.initramfs(path, {name: (0o755, data)
                                   for name, data in files.items()})


def around(said, line):
    """What was said before and after."""
    at = said.index(line)
    return said[max(at - 1000, 0):at + 500]


def judge(said):
    """Nothing was lost, nothing went back, nobody complains.  Behind "log" and
    "verify", whose answers are part of it."""
    found = TROUBLE.findall(said)
    assert not found, f"{said[-TAIL:]}\n{found}"
    ticks = [[int(n) for n in t] for t in TICK.findall(said)]
    for last, now in zip(ticks, ticks[1:]):
        where = around(said, f"TICK {now[0]} ")
        assert now[0] == last[0] + 1, where
        assert all(a < b for a, b in zip(last[1:4], now[1:4])), where
        assert last[4] <= now[4], where
        assert now[5] == 0, f"a clock went back: {where}"
    for kind in "PAGES", "REDIS":
        rows = re.findall(rf"^{kind} (\d+) (\d+)\r?$", said, re.M)
        for i, (steps, bad) in enumerate(rows):
            where = around(said, f"{kind} {steps} ")
            assert int(steps) == int(rows[0][0]) * (i + 1), where
            assert bad == "0", where
