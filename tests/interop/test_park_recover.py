# SPDX-License-Identifier: MIT
"""`ferry run` to `ferry park`, over a link that breaks: it is found again, as
between two VMs, and what is in the image goes on elsewhere."""

import os
import random
import re
import subprocess
import time

import pytest

import qemu
from cutter import Cutter
from ferryvm import Vm
from proxy import Fuse, Road

GUEST = "cpus=2 mode=random mem=25% report=100 touch=all"
POSTCOPY = {"postcopy-ram": True, "x-ferry-precopy-passes": 0}
QUICK = {"x-ferry-timeout": 1000}


@pytest.fixture
def source(folder):
    """`ferry run` with a busy guest."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/kvm")
    vm = Vm(os.environ["FERRY"], str(folder), "f", ram="64M",
            kernel=os.environ["FERRY_GUEST"], append=GUEST)
    vm.serial.wait(lambda log: log.ready or log.dead)
    yield vm
    vm.close()


@pytest.fixture
def ways():
    made = []

    def make(kind, *words, **how):
        made.append(kind(*words, **how))
        return made[-1]

    yield make
    for way in made:
        way.close()


def ferry(folder, *words):
    return subprocess.run(
        [os.environ["FERRY"], *words], text=True, timeout=150,
        env=dict(os.environ, FERRY_RUNTIME_DIR=str(folder)), check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def listening(park, *options):
    one = park(*options)
    one.wait_listening()
    return one


def go(vm, uri, settings):
    vm.set(settings)
    vm.qmp("migrate", uri=uri)


def recovery(vm):
    return vm.qmp("query-migrate").get("x-ferry-recovery", {})


def await_end(vm):
    """However often it is paused on the way."""
    qemu.wait_until("the source is done",
                    lambda: vm.migration() == "completed")


def check_image(one, folder):
    """It is there, whole, and the VM in it goes on."""
    code, said = one.wait()
    assert code == 0, said
    assert not os.path.exists(f"{one.image}.part")
    there = Vm(os.environ["FERRY"], str(folder), "g", ram="64M",
               incoming=f"unix:{folder}/g.in")
    try:
        qemu.wait_until("it waits", lambda: qemu.listens(f"{folder}/g.in"))
        done = ferry(folder, "serve", str(one.image), f"unix:{folder}/g.in")
        assert done.returncode == 0, done.stdout
        found = there.serial.ask("v", "VERIFIED")
        assert found["bad"] == 0 and found["pages"] > 0, found.text
    finally:
        there.close()


@pytest.mark.sanitize
def test_a_link_that_breaks_while_everything_flows(source, park, ways,
                                                   folder):
    one = listening(park)
    fuse = ways(Fuse, one.uri, f"{folder}/fuse")
    go(source, fuse.uri, {**POSTCOPY, "max-postcopy-bandwidth": 40_000_000})
    source.wait_migration("postcopy-active")
    for _ in range(4):
        before = recovery(source).get("attempts", 0)
        time.sleep(0.1)
        fuse.blow()
        qemu.wait_until("it is noticed", lambda: recovery(source).get(
            "attempts", 0) > before or source.migration() == "completed")
        fuse.mend()
    await_end(source)
    assert recovery(source)["count"] >= 1
    check_image(one, folder)


def test_by_hand(source, park, ways, folder):
    one = listening(park)
    fuse = ways(Fuse, one.uri, f"{folder}/fuse")
    go(source, fuse.uri, {**POSTCOPY, "x-ferry-recover": 0,
                          "x-ferry-background-push": False})
    source.wait_migration("postcopy-active")
    fuse.blow()
    now = source.wait_migration("postcopy-paused")
    assert now["x-ferry-where"] == "split", now
    failed = ferry(folder, "recover", "f")
    assert failed.returncode == 3, failed.stdout
    fuse.mend()
    source.set({"x-ferry-background-push": True})
    done = ferry(folder, "recover", "f")
    assert done.returncode == 0, done.stdout
    check_image(one, folder)


@pytest.mark.parametrize("how", ["precopy", "postcopy"])
def test_the_last_word_is_lost(source, park, ways, folder, how):
    """All of it is in the image, and the source does not know: park stays until
    it does."""
    one = listening(park)
    road = ways(Road, one.uri, f"{folder}/road")
    go(source, road.uri, {**QUICK, "max-postcopy-bandwidth": 20_000_000, **(
        POSTCOPY if how == "postcopy" else {"max-bandwidth": 20_000_000})})
    source.wait_migration("postcopy-active" if how == "postcopy"
                          else "active")
    if how == "postcopy":
        road.mute()
        source.set({"max-postcopy-bandwidth": 0})
        qemu.wait_until("the image is there", lambda: one.image.exists())
    else:
        # The word that it runs is lost; that it is ready is not.
        road.mute_behind("4601 0004 00000000")
        source.set({"max-bandwidth": 0})
    qemu.wait_until("the link is given up", lambda: recovery(source))
    assert source.qmp("query-migrate")["x-ferry-where"] == \
        ("split" if how == "postcopy" else "undecided")
    assert one.process.poll() is None
    road.unmute()
    await_end(source)
    assert source.qmp("query-migrate")["x-ferry-where"] == "target"
    check_image(one, folder)


def test_nobody_waits_for_a_source_that_has_heard(source, park, folder):
    one = listening(park)
    go(source, one.uri, POSTCOPY)
    await_end(source)
    begin = time.monotonic()
    assert one.wait()[0] == 0
    assert time.monotonic() - begin < 30    # and not ten minutes
    assert not re.search("has not heard", one.said())


def test_park_once_waits_for_nobody(source, park, ways, folder):
    one = listening(park, "--once")
    fuse = ways(Fuse, one.uri, f"{folder}/fuse")
    go(source, fuse.uri, {**POSTCOPY, "x-ferry-background-push": False})
    source.wait_migration("postcopy-active")
    fuse.blow()
    assert one.wait()[0] == 3
    now = source.wait_migration("postcopy-paused")
    assert "cannot go on" in str(now) or not recovery(source)["seeking"]


CUTS = int(os.environ.get("FERRY_PARK_CUTS", "4"))


@pytest.mark.parametrize("n", range(CUTS))
def test_cuts_anywhere_in_postcopy(source, park, ways, folder, n):
    """Of what the source says, or of what it hears; also the last octets."""
    seed = os.environ.get("FERRY_SEED") or random.randrange(1 << 32)
    chance = random.Random(f"{seed} {n}")
    print(f"seed {seed}")
    one = listening(park)
    where = {"at": chance.randrange(2 << 20, 60 << 20)} if n % 2 else \
        {"back": chance.randrange(840, 906)}    # from LOADED to SHUT
    way = ways(Cutter, folder, one.uri, **where)
    go(source, way.uri, {**POSTCOPY, **QUICK})
    qemu.wait_until("it has an end", lambda: source.migration() in
                    ("completed", "failed"))
    if source.migration() == "completed":
        check_image(one, folder)
        return
    # Cut before the switchover: nothing was lost, and the next succeeds, once
    # park has given the last one up: its source comes back to say so, unless
    # it is told to migrate again before.
    assert source.status() == "running"
    qemu.wait_until("park has given it up", lambda: any(
        words in one.said() for words in ("waiting for another",
                                          "the VM is at the source")))

    def succeeds():
        go(source, one.uri, POSTCOPY)
        qemu.wait_until("it has an end", lambda: source.migration() in
                        ("completed", "failed"))
        return source.migration() == "completed"

    qemu.wait_until("the next succeeds", succeeds)
    check_image(one, folder)
