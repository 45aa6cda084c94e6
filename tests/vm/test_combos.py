# SPDX-License-Identifier: MIT
"""What was tested one by one, together, between VMs whose guests look at their
memory from inside: a sample of tests/combos.py, by a seed that is said.

FERRY_COMBO=NAME runs one combination; FERRY_COMBOS=N so many, 0 for as many
as it takes to have each two words together that go together.
"""

import os
import sys
import time
from pathlib import Path

import pytest

from conftest import check_pages
from proxy import Fuse, hang_up
from test_bulk import words
from test_recover import await_end, await_loss, recovery

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import combos  # noqa: E402

AXES = {**combos.AXES,
        "loss": ("calm", "pass", "cut", "data", "request"),
        "pages": ("4k",)}
SETTINGS = {
    "precopy": {"postcopy-ram": False},
    "both": {"x-ferry-precopy-passes": 1},
    "postcopy": {"x-ferry-precopy-passes": 0},
    "d1": {"multifd-channels": 1}, "d2": {"multifd-channels": 2},
    "d4": {"multifd-channels": 4},
    "u0": {"postcopy-preempt": False},
    "u1": {"x-ferry-urgent-channels": 1}, "u2": {"x-ferry-urgent-channels": 2},
    "apart": {"x-ferry-device-channels": 2},
    "zlib": {"multifd-compression": "zlib"},
    "zstd": {"multifd-compression": "zstd"},
    "auto": {"multifd-compression": "auto"},
    "lease": {"x-ferry-lease": 4000},
    "verify": {"x-ferry-verify": True},
}
GUEST = "cpus=2 mode=random mem=25% report=100"


def few():
    """At once there is no pass to fail in."""
    one = os.environ.get("FERRY_COMBO")
    if one:
        return [tuple(one.split("/"))]
    seed = combos.seed()
    print(f"FERRY_CUTS_FROM={seed}")
    found = [c for c in combos.sample(2, seed, AXES)
             if not {"postcopy", "pass"} <= set(c)]
    return found[:int(os.environ.get("FERRY_COMBOS", 8)) or None]


class Way(Fuse):
    """Knows in which order connections were opened; one can be broken."""

    def __init__(self, uri):
        self.order, self.broken = [], None
        super().__init__(uri)

    def opened(self, near, far):
        self.order.append(near)

    def lose(self, number):
        self.broken = self.order[number]
        self.stir()

    def passes(self, sock, data):
        return b"" if sock is self.broken else super().passes(sock, data)

    def hears(self, sock):
        if sock is self.broken:
            hang_up(sock)
        return super().hears(sock)


@pytest.fixture
def creds(cli, folder):
    def make(kind):
        path = f"{folder}/{kind}"
        done = cli("tls-init", path, *(["--psk", "qemu"] if kind == "psk"
                                       else []))
        assert done.returncode == 0, done.stderr
        return ["--set", f"tls-creds={path}"]
    return make


@pytest.fixture
def scene(make_vm, guest, creds):
    """(source, a target for each try)"""
    ways = []

    def make(c):
        extra = words(0 if "nobulk" in c else 2)
        if "clear" not in c:
            extra += creds("psk" if "psk" in c else "x509")
        how = {"ram": "64M", "extra": extra}
        source = make_vm("a", kernel=guest, append=GUEST, **how)
        source.serial.wait(lambda log: log.ready)

        def target(name):
            vm = make_vm(name, incoming="tcp:127.0.0.1:0", **how)
            ways.append(Way(vm.address()))
            return vm, ways[-1]
        return source, target
    yield make
    for way in ways:
        way.close()


def set_up(source, c):
    source.set({"postcopy-ram": True, "x-ferry-precopy-passes": 1000,
                "downtime-limit": 60000})
    for word in c:
        source.set(SETTINGS.get(word, {}))


def fail_in_a_pass(source, way):
    source.set({"max-bandwidth": 1 << 20})
    source.qmp("migrate", uri=way.uri)
    source.wait_migration("active")
    way.blow()
    now = source.wait_migration("failed")
    assert now["x-ferry-where"] == "source" and now["error-desc"], now
    deadline = time.monotonic() + 60
    while source.status() != "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    source.set({"max-bandwidth": 0})


def lost_channels(vm):
    return vm.qmp("query-migrate").get("x-ferry-lost-channels", 0)


def lose_behind(source, way, c):
    """The VM runs there, and only what it asks for goes over."""
    source.set({"x-ferry-background-push": False})
    source.qmp("migrate", uri=way.uri)
    source.wait_migration("postcopy-active")
    if "cut" in c:
        way.blow()
        await_loss(source)
        way.mend()
    else:
        data = int(next(w for w in c if w in AXES["data"])[1])
        way.lose(1 + (data if "request" in c else 0))
        while not lost_channels(source):
            assert source.migration() == "postcopy-active", source.stderr()
            time.sleep(0.01)
    source.set({"x-ferry-background-push": True})


@pytest.mark.sanitize
@pytest.mark.parametrize("c", few(), ids="/".join)
def test_what_was_tested_one_by_one_works_together(scene, c):
    source, target = scene(c)
    set_up(source, c)
    there, way = target("b")
    if "pass" in c:
        fail_in_a_pass(source, way)
        there, way = target("c")
    if {"cut", "data", "request"} & set(c):
        lose_behind(source, way, c)
    else:
        source.qmp("migrate", uri=way.uri)
    await_end(source)
    await_end(there)
    assert (recovery(source).get("count", 0) > 0) == ("cut" in c), \
        source.qmp("query-migrate")
    if "data" in c or "request" in c:
        assert lost_channels(source) == 1, source.qmp("query-migrate")
    check_pages(there)
