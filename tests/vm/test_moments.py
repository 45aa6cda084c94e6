# SPDX-License-Identifier: MIT
"""Bad moments: whatever happens in whatever phase, the outcome is the one that
the table of src/vmm/control_rules.c promises.

A phase is held as long as a test wants it: precopy by a low bandwidth, the
switchover by a target whose answers stay on the way, postcopy by a source that
sends nothing but what is asked for.
"""

import os
import signal
import time

import pytest

from conftest import GUEST, check_pages
from ferryvm import QmpError
from proxy import Road

CRAWL = {"max-bandwidth": 100_000}
NO_PUSH = {"x-ferry-background-push": False}
FULL_SPEED = {"max-bandwidth": 0, "x-ferry-background-push": True}


@pytest.fixture
def two(pair):
    """A small pair; it takes what pair() takes.  The way between them is
    target.road."""
    roads = []

    def make(**how):
        source, target = pair(ram="64M", **how)
        if how.get("incoming") != "defer":
            roads.append(Road(target.address()))
            target.road = roads[-1]
        return source, target

    yield make
    for road in roads:
        road.close()


def hold_none(source, target):
    pass


def hold_active(source, target):
    source.migrate(target, "precopy+postcopy", CRAWL)
    source.wait_migration("active")
    target.wait_migration("active")


def hold_device(source, target):
    """The target has said LOADED, but the source has not heard it."""
    target.road.keep_loaded()
    source.migrate(target.road.uri, "precopy", CRAWL)
    source.wait_migration("active")
    source.set(FULL_SPEED)
    target.road.await_loaded()
    source.wait_migration("device")
    target.wait_migration("device")


def hold_committed(source, target):
    """As with a QEMU: all was said, and nothing is heard."""
    source.migrate(target.road.uri, "precopy",
                   {**CRAWL, "x-ferry-peer": "qemu",
                    "x-ferry-timeout": 120_000})
    source.wait_migration("active")
    target.road.mute()
    source.set(FULL_SPEED)
    source.wait_migration("device")
    while source.qmp("query-migrate")["x-ferry-where"] != "undecided":
        time.sleep(0.01)


def hold_postcopy(source, target):
    source.migrate(target, "postcopy", NO_PUSH)
    source.wait_migration("postcopy-active")
    target.wait_migration("postcopy-active")


def hold_after(source, target):
    source.migrate(target, "postcopy")
    source.wait_migration("completed")
    target.wait_migration("completed")


def let_go(source, target):
    """Out of the phase that is held, to the end of the migration."""
    target.road.unmute()
    source.set(FULL_SPEED)


def running_and_right(vm):
    assert vm.status() == "running"
    check_pages(vm)


def gone(vm, code):
    assert vm.wait_exit() == code, vm.stderr()


@pytest.fixture
def leaves_threads(monkeypatch):
    """A second signal leaves threads to exit(): some may never end."""
    monkeypatch.setenv("TSAN_OPTIONS", os.environ.get("TSAN_OPTIONS", "") +
                       ":report_thread_leaks=0")


# ---- somebody dies ----------------------------------------------------------

@pytest.mark.sanitize
def test_the_target_dies_in_precopy_and_the_vm_goes_on(two, cli):
    source, target = two()
    move = cli.start("migrate", "a", target.address(), "--limit", "100K")
    source.wait_migration("active")
    target.kill()
    assert move.wait(60) == 1
    assert "the VM is: source" in move.stderr.read().decode()
    assert source.migration() == "failed"
    running_and_right(source)


@pytest.mark.parametrize("quit_first", [False, True])
def test_after_a_failure_it_moves_to_another_target(two, make_vm, quit_first):
    source, target = two()
    hold_active(source, target)
    if quit_first:
        target.close()
    else:
        target.kill()
    source.set(FULL_SPEED)
    third = make_vm("c", ram="64M", incoming="tcp:127.0.0.1:0")
    while source.migration() != "failed":
        time.sleep(0.01)
    source.migrate(third, "postcopy", FULL_SPEED)
    source.wait_migration("completed")
    third.wait_migration("completed")
    running_and_right(third)


def test_the_target_dies_in_the_switchover_and_the_vm_goes_on(two):
    source, target = two()
    hold_device(source, target)
    assert source.status() == "finish-migrate"
    target.kill()
    assert source.wait_migration("failed")["x-ferry-where"] == "source"
    running_and_right(source)


def test_a_target_that_falls_silent_in_the_switchover_is_given_up(two):
    source, target = two()
    source.set({"x-ferry-timeout": 1000})
    hold_device(source, target)
    target.road.mute()
    failed = source.wait_migration("failed")
    assert failed["x-ferry-where"] == "source"
    running_and_right(source)
    # It is told on the link that there is, or, where that broke before, by a
    # source that comes back to say so.
    target.road.unmute()
    gone(target, 1)


def test_a_target_that_falls_asleep_in_precopy_is_given_up(two):
    source, target = two()
    source.set({"x-ferry-timeout": 1000})
    hold_active(source, target)
    target.signal(signal.SIGSTOP)
    assert "for too long" in source.wait_migration("failed")["error-desc"]
    running_and_right(source)
    target.signal(signal.SIGCONT)
    gone(target, 1)


@pytest.mark.sanitize
@pytest.mark.usefixtures("leaves_threads")
def test_the_target_dies_in_postcopy_and_the_source_stays_stopped(two, cli):
    source, target = two()
    move = cli.start("migrate", "a", target.address(), "--postcopy",
                     "--set", "x-ferry-background-push=off",
                     "--set", "x-ferry-recover=1000")
    source.wait_migration("postcopy-active")
    target.kill()
    assert move.wait(60) == 3
    now = source.wait_migration("postcopy-paused")
    assert (now["x-ferry-where"], now["x-ferry-safe"]) == ("split", "none")
    assert source.status() != "running"
    with pytest.raises(QmpError, match="split"):
        source.qmp("cont")
    assert cli("cont", "a").returncode == 1
    with pytest.raises(QmpError, match="then the connection was lost"):
        source.qmp("quit")
    assert source.status() != "running"
    source.signal(signal.SIGTERM)
    source.wait_said("does not end by itself")
    source.signal(signal.SIGTERM)
    gone(source, 4)


@pytest.mark.parametrize("incoming", ["tcp:127.0.0.1:0", "defer"])
def test_the_source_dies_in_precopy(two, make_vm, guest, incoming):
    """A target that was started for this one VM ends; one that was told by
    QMP says why, and can be told again."""
    source, target = two(incoming=incoming)
    if incoming == "defer":
        target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    hold_active(source, target)
    source.kill()
    if incoming != "defer":
        gone(target, 1)
        target.wait_said("migration failed: ")
        return
    assert target.wait_migration("failed")["error-desc"]
    assert target.status() == "inmigrate"
    target.qmp("migrate-incoming", uri="tcp:127.0.0.1:0")
    other = make_vm("c", ram="64M", kernel=guest, append="cpus=2 report=100")
    other.serial.wait(lambda log: log.ready)
    other.migrate(target, "precopy")
    target.wait_migration("completed")
    running_and_right(target)


@pytest.mark.usefixtures("leaves_threads")
def test_the_source_dies_in_postcopy(two):
    source, target = two()
    hold_postcopy(source, target)
    source.kill()
    now = target.wait_migration("postcopy-paused")
    assert (now["x-ferry-where"], now["x-ferry-safe"]) == ("split", "none")
    with pytest.raises(QmpError, match="connection to the source was lost"):
        target.qmp("quit")
    target.signal(signal.SIGTERM)
    target.wait_said("does not end by itself")
    with pytest.raises(TimeoutError):
        target.qmp.wait_event("SHUTDOWN", timeout=0.5)
    target.signal(signal.SIGTERM)
    gone(target, 4)
    assert "second signal: ended, although" in target.stderr()


def stop_while_a_page_is_missing(target):
    """Where the kernel lets a vCPU go that waits for a page, it stops; where
    not, `stop` gives up and the VM runs on.  It answers in any case."""
    target.serial.send("v")         # it looks at memory nobody asked for yet
    for _ in range(10):
        try:
            target.qmp("stop")
            assert target.status() == "paused"
            target.qmp("cont")
        except QmpError as why:
            assert "waits for memory" in str(why)
        assert target.status() == "running"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.usefixtures("leaves_threads")
def test_a_target_whose_pages_do_not_come_listens_to_orders(two, how):
    source, target = two(append=GUEST + " touch=all")
    hold_postcopy(source, target)
    source.signal(how)
    stop_while_a_page_is_missing(target)
    assert target.qmp("query-migrate-parameters")
    with pytest.raises(QmpError, match="the source"):
        target.qmp("quit")
    target.signal(signal.SIGTERM)
    target.wait_said("signal")
    target.signal(signal.SIGTERM)
    gone(target, 4)


def test_stop_works_when_the_pages_come(two):
    # Ten times `stop` may take two seconds; the target is to be patient.
    source, target = two(append=GUEST + " touch=all",
                         extra=["--set", "x-ferry-timeout=120000"])
    hold_postcopy(source, target)
    source.signal(signal.SIGSTOP)
    stop_while_a_page_is_missing(target)
    source.signal(signal.SIGCONT)
    source.set(FULL_SPEED)
    target.wait_migration("completed")
    target.qmp("stop")
    assert target.status() == "paused"
    target.qmp("cont")
    target.serial.wait(lambda log: log.last("VERIFIED"))
    running_and_right(target)


# ---- orders at the wrong time -------------------------------------------------

REFUSED = [
    # phase, side, command, arguments, the reason
    (hold_none, "a", "migrate-incoming", {"uri": "tcp:127.0.0.1:0"},
     "a VM here already"),
    (hold_none, "b", "migrate", {"uri": "tcp:127.0.0.1:1"},
     "not here yet"),
    (hold_none, "b", "migrate-incoming", {"uri": "tcp:127.0.0.1:0"},
     "already been started"),
    (hold_none, "b", "cont", {}, "not been handed over"),
    (hold_none, "b", "system_reset", {}, "not here yet"),
    (hold_none, "a", "migrate-start-postcopy", {}, "no migration"),
    (hold_active, "a", "migrate", {"uri": "tcp:127.0.0.1:1"},
     "a migration is in progress"),
    (hold_active, "a", "migrate-incoming", {"uri": "tcp:127.0.0.1:0"},
     "a migration is in progress"),
    (hold_active, "b", "migrate", {"uri": "tcp:127.0.0.1:1"},
     "not here yet"),
    (hold_active, "b", "cont", {}, "not been handed over"),
    (hold_active, "b", "migrate-start-postcopy", {}, "no migration"),
    (hold_device, "a", "cont", {}, "stopped for the switchover"),
    (hold_device, "a", "migrate", {"uri": "tcp:127.0.0.1:1"},
     "a migration is in progress"),
    (hold_device, "a", "system_reset", {}, "stopped for the switchover"),
    (hold_committed, "a", "quit", {}, "committed to the target"),
    (hold_committed, "a", "migrate_cancel", {}, "committed to the target"),
    (hold_committed, "a", "cont", {}, "undecided"),
    (hold_committed, "a", "migrate", {"uri": "tcp:127.0.0.1:1"},
     "a migration is in progress"),
    (hold_postcopy, "a", "cont", {}, "split"),
    (hold_postcopy, "a", "migrate", {"uri": "tcp:127.0.0.1:1"},
     "a migration is in progress"),
    (hold_postcopy, "a", "migrate_cancel", {}, "still be only here"),
    (hold_postcopy, "a", "quit", {}, "still be only here"),
    (hold_postcopy, "a", "migrate-start-postcopy", {}, "postcopy-active"),
    (hold_postcopy, "b", "migrate", {"uri": "tcp:127.0.0.1:1"},
     "still at the source"),
    (hold_postcopy, "b", "migrate_cancel", {}, "still at the source"),
    (hold_postcopy, "b", "quit", {}, "still at the source"),
    (hold_postcopy, "b", "system_reset", {}, "still at the source"),
    (hold_after, "a", "cont", {}, "target"),
    (hold_after, "a", "migrate", {"uri": "tcp:127.0.0.1:1"}, "not here"),
    (hold_after, "a", "system_reset", {}, "not here"),
    (hold_after, "b", "migrate-incoming", {"uri": "tcp:127.0.0.1:0"},
     "a VM here already"),
]


@pytest.mark.parametrize("hold", [hold_none, hold_active, hold_device,
                                  hold_committed, hold_postcopy, hold_after])
def test_what_is_refused_does_no_harm(two, hold):
    """All orders that are wrong in a phase, and then it goes on."""
    source, target = two()
    hold(source, target)
    for phase, side, command, arguments, reason in REFUSED:
        if phase is not hold:
            continue
        vm = source if side == "a" else target
        with pytest.raises(QmpError, match=reason):
            vm.qmp(command, **arguments)
    if hold is hold_none:
        source.migrate(target, "precopy")
    let_go(source, target)
    source.wait_migration("completed")
    target.wait_migration("completed")
    running_and_right(target)


@pytest.mark.parametrize("command", ["migrate_cancel", "ferry cancel"])
def test_cancelled_in_precopy_it_goes_on_and_moves_later(two, make_vm, cli,
                                                         command):
    source, target = two()
    hold_active(source, target)
    if command == "ferry cancel":
        assert cli("cancel", "a").returncode == 0
    else:
        source.qmp(command)
    source.wait_migration("cancelled")
    running_and_right(source)
    gone(target, 1)
    third = make_vm("c", ram="64M", incoming="tcp:127.0.0.1:0")
    source.migrate(third, "precopy", FULL_SPEED)
    third.wait_migration("completed")
    running_and_right(third)


def test_cancelled_in_the_switchover_it_goes_on(two):
    source, target = two()
    hold_device(source, target)
    source.qmp("migrate_cancel")
    source.wait_migration("cancelled")
    running_and_right(source)
    gone(target, 1)


def test_postcopy_on_demand(two, cli):
    source, target = two()
    hold_active(source, target)
    assert cli("start-postcopy", "a").returncode == 0
    let_go(source, target)
    done = source.wait_migration("completed")
    assert done["ram"]["postcopy-bytes"] > done["ram"]["precopy-bytes"]
    running_and_right(target)


# ---- stopped VMs --------------------------------------------------------------

def hears_nothing(vm):
    """A guest that stands still does not answer."""
    with pytest.raises(TimeoutError):
        vm.serial.ask("s", "SUMMARY", timeout=0.5)


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_a_stopped_vm_arrives_stopped(two, mode):
    source, target = two()
    source.qmp("stop")
    source.migrate(target, mode)
    source.wait_migration("completed")
    target.wait_migration("completed")
    assert target.status() == "paused"
    hears_nothing(target)
    target.qmp("cont")
    running_and_right(target)


@pytest.mark.parametrize("how", ["--paused", "stop"])
def test_a_target_told_so_does_not_run_what_arrives(two, make_vm, guest, how):
    source, target = two()
    if how == "stop":
        target.qmp("stop")
    else:
        target.close()
        target = make_vm("c", ram="64M", incoming="tcp:127.0.0.1:0",
                         extra=["--paused"])
    source.migrate(target, "precopy")
    source.wait_migration("completed")
    target.wait_migration("completed")
    assert target.status() == "paused"
    assert source.status() == "postmigrate"
    target.qmp("cont")
    running_and_right(target)


def test_a_vm_that_is_stopped_on_its_way_arrives_stopped(two):
    source, target = two()
    hold_active(source, target)
    source.qmp("stop")
    let_go(source, target)
    source.wait_migration("completed")
    assert target.status() == "paused"


# ---- quit, SIGTERM, reset, power-off -------------------------------------------

def quit_vm(vm):
    vm.qmp("quit")


def terminate(vm):
    vm.signal(signal.SIGTERM)


def reset(vm):
    vm.serial.send("R")


def power_off(vm):
    vm.serial.send("q")


@pytest.mark.parametrize("end", [quit_vm, terminate, power_off])
def test_at_home_the_process_ends(two, end):
    source, target = two()
    end(source)
    gone(source, 0)
    assert target.status() == "inmigrate"


@pytest.mark.parametrize("end", [quit_vm, terminate])
def test_a_target_that_waits_ends(two, end):
    source, target = two()
    end(target)
    gone(target, 0)
    running_and_right(source)


@pytest.mark.parametrize("end", [quit_vm, terminate, power_off])
def test_in_precopy_the_source_cancels_and_ends(two, end):
    source, target = two()
    hold_active(source, target)
    end(source)
    gone(source, 0)
    gone(target, 1)
    target.wait_said("cancelled")


@pytest.mark.parametrize("end", [quit_vm, terminate])
def test_in_precopy_the_target_ends_and_the_source_goes_on(two, end):
    source, target = two()
    hold_active(source, target)
    end(target)
    gone(target, 0)
    source.wait_migration("failed")
    running_and_right(source)


@pytest.mark.parametrize("end", [quit_vm, terminate])
def test_in_the_switchover_the_source_cancels_and_ends(two, end):
    source, target = two()
    hold_device(source, target)
    end(source)
    gone(source, 0)
    gone(target, 1)


@pytest.mark.parametrize("end", [quit_vm, terminate])
def test_in_the_switchover_the_target_ends_and_the_source_goes_on(two, end):
    source, target = two()
    hold_device(source, target)
    end(target)
    gone(target, 0)
    target.road.unmute()
    source.wait_migration("failed")
    running_and_right(source)


def test_in_postcopy_a_signalled_source_ends_once_all_is_sent(two):
    source, target = two()
    hold_postcopy(source, target)
    terminate(source)
    assert source.migration() == "postcopy-active"
    let_go(source, target)
    gone(source, 0)
    target.wait_migration("completed")
    running_and_right(target)


@pytest.mark.parametrize("end", [terminate, power_off, reset])
def test_in_postcopy_a_target_ends_once_all_has_come(two, end):
    source, target = two()
    hold_postcopy(source, target)
    end(target)
    with pytest.raises(TimeoutError):
        target.qmp.wait_event("SHUTDOWN", timeout=1)
    let_go(source, target)
    source.wait_migration("completed")
    gone(target, 1 if end is reset else 0)      # a reset of what?


@pytest.mark.parametrize("end", [quit_vm, terminate])
def test_after_it_the_source_ends(two, end):
    source, target = two()
    hold_after(source, target)
    end(source)
    gone(source, 0)
    running_and_right(target)


@pytest.mark.parametrize("end", [quit_vm, terminate, power_off])
def test_after_it_the_target_is_a_vm_like_any(two, end):
    source, target = two()
    hold_after(source, target)
    end(target)
    gone(target, 0)


def was_reset(vm, ready=2):
    assert vm.qmp.wait_event("RESET")["data"]["guest"] is True
    vm.serial.wait(lambda log: len(log.all("READY")) == ready)


def test_after_it_a_reset_without_a_kernel_is_an_error(two):
    source, target = two()
    hold_after(source, target)
    with pytest.raises(QmpError, match="give --kernel together with"):
        target.qmp("system_reset")
    running_and_right(target)
    reset(target)
    gone(target, 1)
    assert "give --kernel together with --incoming" in target.stderr()


def test_after_it_a_reset_without_a_kernel_may_leave_it_here(two):
    source, target = two(extra=["--no-shutdown"])
    hold_after(source, target)
    reset(target)
    assert target.qmp.wait_event("SHUTDOWN")["data"]["reason"] == "guest-reset"
    assert target.status() == "shutdown"
    quit_vm(target)
    gone(target, 0)


@pytest.mark.sanitize
@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_after_it_a_reset_starts_the_kernel_of_the_target(
        two, make_vm, guest, mode):
    source, _ = two()
    target = make_vm("c", ram="64M", incoming="tcp:127.0.0.1:0", kernel=guest,
                     append=GUEST)
    assert target.status() == "inmigrate"
    source.migrate(target, mode, FULL_SPEED)
    target.wait_migration("completed")
    running_and_right(target)
    reset(target)
    was_reset(target, ready=1)          # the first was said at the source
    running_and_right(target)
    source.qmp("quit")
    running_and_right(target)


def test_at_home_a_reset_starts_the_guest_again(two):
    source, _ = two()
    reset(source)
    was_reset(source)
    running_and_right(source)


def test_in_precopy_a_reset_starts_the_guest_again_and_it_moves(two):
    source, target = two()
    hold_active(source, target)
    reset(source)
    was_reset(source)
    let_go(source, target)
    source.wait_migration("completed")
    target.wait_migration("completed")
    running_and_right(target)
