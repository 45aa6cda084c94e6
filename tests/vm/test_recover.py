# SPDX-License-Identifier: MIT
"""The link between two processes is lost in postcopy, while a guest works, and
found again: whoever broke it, how often, and without a wrong page.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from conftest import GUEST, check_pages
from ferryvm import QmpError
from proxy import Fuse

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
from stops import Stops  # noqa: E402

HELD = {"x-ferry-background-push": False}
QUICK = {"x-ferry-timeout": 1000}
FAULTS = int(os.environ.get("FERRY_FAULTS", "15"))


@pytest.fixture
def fuses():
    made = []

    def make(target, path=None):
        made.append(Fuse(target.address(), path))
        return made[-1]

    yield make
    for fuse in made:
        fuse.close()


def recovery(vm):
    return vm.qmp("query-migrate").get("x-ferry-recovery", {})


def await_recoveries(vm, times):
    deadline = time.monotonic() + 120
    while recovery(vm).get("count", 0) < times or \
            vm.migration() != "postcopy-active":
        assert time.monotonic() < deadline, vm.qmp("query-migrate")
        time.sleep(0.01)


def await_loss(vm):
    """It is paused, or tries already."""
    deadline = time.monotonic() + 120
    while not recovery(vm):
        assert time.monotonic() < deadline, vm.qmp("query-migrate")
        time.sleep(0.005)


def await_end(vm):
    """However often it is paused on the way."""
    deadline = time.monotonic() + 120
    while vm.migration() != "completed":
        assert time.monotonic() < deadline, vm.qmp("query-migrate")
        time.sleep(0.01)


def hold(source, uri, settings=(), paths=()):
    """In postcopy, where only what is asked for goes over."""
    source.set({"x-ferry-precopy-passes": 0, **HELD, **dict(settings)})
    source.qmp("migrate", uri=uri, **{"x-ferry-paths": list(paths)})
    source.wait_migration("postcopy-active")


def finish(source, target, least):
    source.set({"x-ferry-background-push": True})
    await_end(target)
    await_end(source)
    came, went = recovery(target), recovery(source)
    assert came["count"] >= least and went["count"] >= least
    assert went["apart-us"] > 0 and not went["seeking"]
    check_pages(target)
    assert target.status() == "running"


def break_once(source, fuse, mend_after=0):
    """Broken, noticed, tried in vain at least once, mended."""
    before = recovery(source).get("attempts", 0)
    fuse.blow()
    while recovery(source).get("attempts", 0) == before:
        time.sleep(0.005)
    time.sleep(mend_after)
    fuse.mend()


@pytest.mark.sanitize
@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_a_link_that_breaks_again_and_again(pair, fuses, folder, way, capsys):
    """FERRY_FAULTS of them, each noticed before the next: some as soon as it is
    found again, some while it is being found, some later; the guest misses
    memory all the time."""
    seed = os.environ.get("FERRY_SEED", "") or str(random.randrange(1 << 32))
    chance = random.Random(seed)
    source, target = pair(
        ram=f"{64 + FAULTS // 2 * 2}M", incoming="tcp:127.0.0.1:0"
        if way == "tcp" else f"unix:{folder}/in",
        append="cpus=2 mode=random mem=70% rate=8M report=100")
    fuse = fuses(target, None if way == "tcp" else f"{folder}/fuse")
    hold(source, fuse.uri)
    begin, faults = time.monotonic(), 0
    while faults < FAULTS:
        before = recovery(source).get("count", 0)
        break_once(source, fuse, chance.choice([0, 0, 0.05]))
        faults += 1
        if chance.random() < 0.25:
            time.sleep(chance.random() * 0.02)
            continue            # whether it is found again by now or not
        await_recoveries(source, before + 1)
        time.sleep(chance.choice([0, 0, 0.03 * chance.random()]))
    await_recoveries(source, 1)
    took = time.monotonic() - begin
    finish(source, target, 1)
    with capsys.disabled():
        print(f"\n{faults} faults over {way} in {took:.0f} s (seed {seed}): "
              f"found again {recovery(source)['count']} times in "
              f"{recovery(source)['attempts']} attempts, bad=0")


@pytest.mark.sanitize
def test_links_that_break_while_everything_flows(pair, fuses):
    """At any moment: what was on its way is lost."""
    source, target = pair(ram="128M", append=GUEST + " touch=all")
    fuse = fuses(target)
    hold(source, fuse.uri, {"max-postcopy-bandwidth": 8_000_000})
    source.set({"x-ferry-background-push": True})
    times = 0
    while source.migration() != "completed" and times < 8:
        time.sleep(0.15)
        if source.migration() != "postcopy-active":
            continue
        fuse.blow()
        time.sleep(0.02)
        fuse.mend()
        times += 1
    source.set({"max-postcopy-bandwidth": 0})
    await_end(source)
    await_end(target)
    assert times and recovery(source)["count"] >= 1
    check_pages(target)


@pytest.mark.parametrize("who", ["source", "target"])
def test_a_side_that_was_stopped_is_missed_and_comes_back(pair, who):
    source, target = pair(ram="64M")
    target.set(QUICK)
    hold(source, target.address(), QUICK)
    stopped, other = (source, target) if who == "source" else (target, source)
    stopped.freeze()
    now = other.wait_migration("postcopy-paused")
    assert "for too long" in now["error-desc"], now
    assert now["x-ferry-where"] == "split" and now["x-ferry-safe"] == "none"
    time.sleep(0.3)
    stopped.signal(signal.SIGCONT)
    await_recoveries(source, 1)
    finish(source, target, 1)


def test_a_dead_peer_is_noticed_in_less_than_five_seconds(pair):
    """Nothing to be set for that, over a unix socket as well."""
    source, target = pair(ram="64M")
    hold(source, target.address())
    with Stops() as watch:
        target.freeze()
        begin = time.monotonic_ns()
        await_loss(source)
        end = time.monotonic_ns()
    assert (end - begin) / 1e6 - watch.within_ms(begin, end) < 5000
    target.signal(signal.SIGCONT)
    await_recoveries(source, 1)
    finish(source, target, 1)


def test_a_second_path_is_taken(pair, fuses, cli):
    source, target = pair(ram="64M")
    first, second = fuses(target), fuses(target)
    source.set(HELD)
    move = cli.start("migrate", "a", first.uri, "--postcopy", "--path",
                     second.uri, "--set", "x-ferry-background-push=off")
    source.wait_migration("postcopy-active")
    first.blow()                # for good
    await_recoveries(source, 1)
    status = cli("status", "a").stdout
    assert "found again 1 times" in status, status
    source.set({"x-ferry-background-push": True})
    assert move.wait(60) == 0
    check_pages(target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_watching_does_not_end_the_search(pair, fuses, cli, number):
    source, target = pair(ram="64M")
    fuse = fuses(target)
    source.set(HELD)
    move = cli.start("migrate", "a", fuse.uri, "--postcopy", "--set",
                     "x-ferry-background-push=off")
    source.wait_migration("postcopy-active")
    fuse.blow()
    await_loss(source)
    move.send_signal(number)
    _, said = move.communicate(timeout=60)
    assert move.returncode == 3 and b"the migration goes on" in said, said
    fuse.mend()
    await_recoveries(source, 1)
    finish(source, target, 1)


def test_by_hand_at_another_address(pair, fuses, folder, cli):
    source, target = pair(ram="64M", append=GUEST + " touch=all")
    fuse = fuses(target)
    hold(source, fuse.uri, {"x-ferry-recover": 0})
    refused = cli("recover", "a")
    assert refused.returncode == 1 and "nothing to recover" in refused.stderr
    fuse.blow()
    source.wait_migration("postcopy-paused")
    target.wait_migration("postcopy-paused")
    time.sleep(0.2)
    assert source.migration() == "postcopy-paused"
    # It waits for memory; both answer all the same.
    target.serial.send("v")
    failed = cli("recover", "a")
    assert failed.returncode == 3, failed.stderr
    assert cli("recover", "b").returncode == 2
    done = cli("recover", "b", f"unix:{folder}/again")
    assert done.returncode == 0, done.stderr
    source.set({"x-ferry-background-push": True})
    done = cli("recover", "a", f"unix:{folder}/again")
    assert done.returncode == 0, done.stderr
    assert target.wait_migration("completed")["x-ferry-recovery"]["count"] == 1
    check_pages(target)


class LosesRun(Fuse):
    """Nothing goes to the target any more once it has said LOADED."""

    LOADED = bytes.fromhex("4601 0004 00000000")
    loaded = False

    def passes(self, sock, data):
        self.loaded |= sock not in self.near and self.LOADED in data
        return super().passes(sock, data)

    def hears(self, sock):
        if not self.blown and self.loaded and sock in self.near:
            return False
        return super().hears(sock)


@pytest.mark.parametrize("passes", [0, 1000], ids=["postcopy", "precopy"])
def test_run_is_lost_and_the_link_for_longer_than_a_timeout(pair, passes):
    """The target does not run it, the source may not: it is waited for."""
    source, target = pair(ram="64M")
    target.set(QUICK)
    way = LosesRun(target.address())
    try:
        source.set({**QUICK, "x-ferry-precopy-passes": passes})
        source.qmp("migrate", uri=way.uri)
        while source.qmp("query-migrate")["x-ferry-where"] != "undecided":
            time.sleep(0.005)
        way.blow()
        time.sleep(2.5)
        now = target.qmp("query-migrate")
        assert now["status"] == "device", now
        assert source.qmp("query-migrate")["x-ferry-where"] == "undecided"
        assert target.status() != "running" != source.status()
        way.loaded, way.LOADED = False, b"never again"
        way.mend()
        await_end(source)
        await_end(target)
    finally:
        way.close()
    check_pages(target)


def test_orders_while_there_is_no_link(pair, fuses, cli):
    source, target = pair(ram="64M")
    fuse = fuses(target)
    hold(source, fuse.uri)
    with pytest.raises(QmpError, match="migrate with resume"):
        source.qmp("migrate-recover", uri="tcp:127.0.0.1:0")
    source.qmp("migrate-pause")
    now = source.wait_migration("postcopy-paused")
    assert "paused by the user" in now["error-desc"]
    target.wait_migration("postcopy-paused")
    for vm in source, target:
        with pytest.raises(QmpError, match="connection.*ferry recover"):
            vm.qmp("quit")
    with pytest.raises(QmpError, match="handed over.*ferry recover"):
        source.qmp("cont")
    source.qmp("migrate", resume=True)
    await_recoveries(source, 1)

    fuse.blow()
    while recovery(source)["attempts"] < 4:
        time.sleep(0.01)
    done = cli("cancel", "a")
    assert done.returncode == 3, done.stderr
    while recovery(source)["seeking"]:
        time.sleep(0.01)
    done = cli("cancel", "a")
    assert done.returncode == 1 and "`ferry recover`" in done.stderr
    now = source.qmp("query-migrate")
    assert "cancelled by the user" in now["error-desc"]
    assert now["x-ferry-where"] == "split"
    fuse.mend()
    source.qmp("migrate", resume=True)
    await_recoveries(source, 2)
    finish(source, target, 2)
