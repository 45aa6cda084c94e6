# SPDX-License-Identifier: MIT
"""The target is lost behind the switchover: under a lease its guest stops by
itself, and then, not before, the source may have the VM back.
"""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

import net as nets
from conftest import check_pages
from ferryvm import PATIENCE, QmpError, Vm

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
from stops import Stops  # noqa: E402

GUEST = "cpus=2 mode=random mem=16M report=100"
PORT = 4712
LEASE_MS = 1500
LONG_MS = 6000          # enough to look at what there is before its end
LATEST_S = LONG_MS / 1000 * 1.01 + 2
HELD = {"x-ferry-background-push": False, "x-ferry-timeout": 1000,
        "x-ferry-precopy-passes": 0}
DEAD = "--target-is-dead"


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def rollback_of(vm):
    return vm.qmp("query-migrate")["x-ferry-rollback"]


def lease_left_ms(vm):
    return vm.qmp("query-migrate")["x-ferry-lease"]["left-ms"]


def hold(source, uri, lease_ms=LEASE_MS):
    """In postcopy, and it stays so."""
    source.set({**HELD, "x-ferry-lease": lease_ms})
    source.qmp("migrate", uri=uri)
    source.wait_migration("postcopy-active")


def beats(vm):
    return vm.qmp("x-ferry-heartbeat")


def stands_still(vm):
    """No vCPU has run for a while; when the last did, on the host's clock."""
    last = beats(vm)["last-ns"]
    time.sleep(0.2)
    now = beats(vm)
    assert now["beats"] == 0, now
    return last


def expect_home(source, stopped_ns):
    """It runs here, whole, and began after the other one had stopped."""
    now = source.qmp("query-migrate")
    assert now["status"] == "failed" and now["x-ferry-where"] == "source"
    assert now["x-ferry-safe"] == "source"
    assert "rolled back" in now["error-desc"]
    assert "paused by the user" not in source.stderr()
    assert source.status() == "running"
    begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    first = beats(source)
    until("it beats", lambda: beats(source)["last-ns"] > begin)
    assert not first["beats"] or first["first-ns"] > stopped_ns
    check_pages(source)


@pytest.fixture
def hosts(ferry, folder, guest, kvm):
    nets.require()
    net = nets.Net()
    vms = []
    try:
        vms.append(Vm(ferry, folder, "a", ram="64M", kernel=guest,
                      append=GUEST, wrapper=net.inside("here")))
        vms.append(Vm(ferry, folder, "b", ram="64M", incoming="tcp:0.0.0.0:"
                      f"{PORT}", wrapper=net.inside("there")))
        vms[0].serial.wait(lambda log: log.ready)
        yield net, *vms, f"tcp:{net.ADDRESS['there']}:{PORT}"
    finally:
        for vm in vms:
            vm.close()
        net.close()


def test_a_target_that_is_cut_off_stops_and_the_source_goes_on(hosts, cli):
    net, source, target, uri = hosts
    hold(source, uri, LONG_MS)
    assert rollback_of(source) == "no"
    refused = cli("rollback", "a", DEAD)
    assert refused.returncode == 1 and "postcopy-active" in refused.stderr
    with Stops() as watch:
        net.drop()
        cut = time.monotonic_ns()
        until("it is missed", lambda: rollback_of(source) != "no")
        beats(source)           # those before the switchover
        assert rollback_of(source) == "later"
        refused = cli("rollback", "a", DEAD)
        assert refused.returncode == 1
        assert "has not run out" in refused.stderr
        assert source.status() == "finish-migrate"
        target.qmp.wait_event("X_FERRY_LEASE", out=True)
        stopped_ns = stands_still(target)
    assert (stopped_ns - cut) / 1e6 - watch.within_ms(cut, stopped_ns) < \
        LONG_MS + 1000
    status = cli("status", "b").stdout
    assert "stands still" in status, status
    assert "VM         paused: the lease ran out" in status, status
    assert not target.qmp("query-status")["running"]
    with pytest.raises(QmpError, match="lease"):
        target.qmp("cont")

    done = cli("rollback", "a", DEAD, "--wait")
    assert done.returncode == 0, done.stderr
    assert (time.monotonic_ns() - cut) / 1e9 > LATEST_S - 0.2
    assert "is lost" in done.stdout and "alone" not in done.stdout
    expect_home(source, stopped_ns)
    assert beats(target)["beats"] == 0

    net.pass_again()
    target.wait_exit()
    target.wait_said("void")
    for command in "recover", "rollback":
        words = [DEAD] if command == "rollback" else []
        refused = cli(command, "a", *words)
        assert refused.returncode == 1, refused.stderr
    check_pages(source)


def test_a_target_that_was_stopped_does_not_run_for_a_moment(pair, cli):
    """Its vCPUs are behind the lease when they go on, and so is what they had
    begun to say."""
    source, target = pair(ram="64M", append=GUEST)
    hold(source, target.address())
    target.freeze()
    stopped_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    source.set({"x-ferry-recover": 0})      # nobody tells it
    source.wait_migration("postcopy-paused")
    beats(source)
    done = cli("rollback", "a", DEAD, "--wait")
    assert done.returncode == 0, done.stderr
    expect_home(source, stopped_ns)
    said = target.serial.raw
    target.signal(signal.SIGCONT)
    assert stands_still(target) < stopped_ns
    assert target.serial.raw == said
    assert target.migration() == "postcopy-paused"
    check_pages(source)


def test_a_lease_is_renewed_when_the_source_comes_back(pair):
    source, target = pair(ram="64M", append=GUEST)
    hold(source, target.address())
    source.qmp("migrate-pause")
    target.qmp.wait_event("X_FERRY_LEASE", out=True)
    stands_still(target)
    source.qmp("migrate", resume=True)
    target.qmp.wait_event("X_FERRY_LEASE", out=False)
    source.set({"x-ferry-background-push": True})
    source.wait_migration("completed")
    target.wait_migration("completed")
    check_pages(target)
    assert "x-ferry-lease" not in target.qmp("query-migrate")


def test_a_target_that_was_killed_without_a_lease(pair, cli):
    source, target = pair(ram="64M", append=GUEST)
    hold(source, target.address(), lease_ms=0)
    target.kill()
    until("it is missed", lambda: rollback_of(source) != "no")
    status = cli("status", "a").stdout
    assert "unproven" in status, status
    source.set({"x-ferry-recover": 3000})
    silent = cli("recover", "a")            # who waits hears how it goes
    assert silent.returncode == 3, silent.stderr
    assert re.search(r"where it was, \d+ tries in \d+ s; the last: .*refused",
                     silent.stderr), silent.stderr
    status = cli("status", "a").stdout
    assert "ways out" in status and "`ferry rollback`" in status, status
    refused = cli("cancel", "a")
    assert refused.returncode == 1 and "`ferry rescue`" in refused.stderr
    for words in [], ["--target"], ["--target-is-dea"]:
        assert cli("rollback", "a", *words).returncode == 2
    with pytest.raises(QmpError, match="target-is-dead"):
        source.qmp("x-ferry-rollback", **{"target-is-dead": False})
    assert source.status() == "finish-migrate"
    beats(source)
    done = cli("rollback", "a", DEAD)
    assert done.returncode == 0, done.stderr
    assert "your word alone" in done.stdout
    expect_home(source, 0)


def test_what_was_rolled_back_can_move_again(pair, make_vm, cli):
    source, target = pair(ram="64M", append=GUEST)
    hold(source, target.address(), lease_ms=0)
    os.kill(target.process.pid, signal.SIGSTOP)
    until("it is missed", lambda: rollback_of(source) != "no")
    assert cli("rollback", "a", DEAD).returncode == 0
    other = make_vm("c", ram="64M", incoming="tcp:127.0.0.1:0")
    source.set({"x-ferry-background-push": True, "x-ferry-lease": 0})
    source.qmp("migrate", uri=other.address())
    source.wait_migration("completed")
    check_pages(other)
    target.signal(signal.SIGCONT)
