# SPDX-License-Identifier: MIT
"""Devices whose state is kept by processes of their own (--bulk-state): moved
in every mode, on channels of their own and among the pages; and what goes
wrong with them, in a sentence, with the VM at its source."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import check_pages, sentence
from ferryvm import QmpError

SMALL = "size=6M,rate=200M,change=4M"


def words(n, rest=SMALL):
    return [w for i in range(n) for w in ("--bulk-state", f"dev{i},{rest}")]


def keepers(vm):
    """The processes that keep the states of its devices, by pid."""
    found = []
    for task in Path(f"/proc/{vm.process.pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:             # a thread that has just ended
            pass
    return sorted(found)


def devices(vm):
    return {d["name"]: d for d in vm.qmp("query-migrate")["x-ferry-bulk"]}


def are_gone(pids):
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{p}").exists() for p in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)


# A sample of what can be combined; flow-bulk has all of it, without VMs.
@pytest.mark.sanitize
@pytest.mark.parametrize("mode, n, settings", [
    ("precopy", 1, {}),
    ("precopy", 4, {"x-ferry-device-channels": 4}),
    ("postcopy", 8, {"x-ferry-device-channels": 2, "multifd-channels": 2}),
    ("precopy+postcopy", 3, {"multifd-channels": 3}),
    ("precopy", 2, {"x-ferry-bulk": "serial", "x-ferry-device-channels": 1}),
])
def test_devices_move_with_their_vm(pair, mode, n, settings):
    source, target = pair(extra=words(n))
    pids = keepers(source) + keepers(target)
    assert len(pids) == 2 * n
    source.migrate(target, mode, settings)
    source.wait_migration("completed")
    target.wait_migration("completed")
    check_pages(target)
    for vm in source, target:
        seen = devices(vm)
        assert sorted(seen) == [f"dev{i}" for i in range(n)]
        assert {d["state"] for d in seen.values()} == {"loaded"}
        assert {d["ready"] for d in seen.values()} == {True}
    assert sum(d["longest"] for d in devices(source).values()) == 1
    for name, d in devices(source).items():
        assert d["path-us"] > 0
        assert d["precopy-bytes"] + d["downtime-bytes"] >= 6 << 20
        # Told by the target, and the same there.
        assert d["load-us"] == devices(target)[name]["load-us"]
    told = [e["data"]["device"] for e in source.qmp.events
            if e["event"] == "MIGRATION_BULK"]
    assert sorted(told) == [f"dev{i}" for i in range(n)]
    source.close()
    target.close()
    are_gone(pids)


def test_they_change_while_the_vm_runs_and_come_back(pair, make_vm, ferry,
                                                     guest):
    source, target = pair(extra=words(2))
    back = make_vm("c", incoming="tcp:127.0.0.1:0", extra=words(2))
    source.migrate(target, "precopy")
    target.wait_migration("completed")
    time.sleep(0.5)         # 2 MiB of it are others by then
    target.migrate(back, "postcopy")
    back.wait_migration("completed")
    check_pages(back)


def test_status_tells_of_each_and_which_was_the_longest(pair, cli):
    source, target = pair(extra=words(1) + ["--bulk-state",
                                            "slow,size=6M,rate=20M,change=0"])
    source.migrate(target, "postcopy", {"x-ferry-device-channels": 1})
    target.wait_migration("completed")
    source.wait_migration("completed")
    lines = [line for line in cli("status", "a").stdout.splitlines()
             if line.startswith("device ")]
    assert len(lines) == 2
    assert " dev0/0: loaded, " in lines[0] and "longest" not in lines[0]
    assert " slow/0: loaded, " in lines[1] and "(the longest)" in lines[1]
    said = json.loads(cli("status", "--json", "a").stdout)
    assert [d["name"] for d in said["migration"]["x-ferry-bulk"]] == [
        "dev0", "slow"]


def test_the_target_holds_the_switchover_until_it_has_the_first(pair):
    """Without it nothing would be loaded before: postcopy begins at once."""
    source, target = pair(extra=["--bulk-state",
                                 "gpu,size=8M,rate=40M,change=0,first=4M"])
    source.migrate(target, "postcopy")
    target.wait_migration("completed")
    assert devices(source)["gpu"]["precopy-bytes"] >= 4 << 20


def test_status_names_the_device_that_the_switchover_waits_for(make_vm, cli,
                                                               guest):
    """The source's device keeps back what the target's wants first."""
    source = make_vm("a", kernel=guest, append="cpus=1", vcpus=1,
                     extra=["--bulk-state", "gpu,size=1M,live=0"])
    target = make_vm("b", incoming="tcp:127.0.0.1:0", vcpus=1,
                     extra=["--bulk-state", "gpu,size=1M,first=64k"])
    source.migrate(target, "precopy")
    deadline = time.monotonic() + 60
    while "pass 2" not in cli("status", "a").stdout:
        assert time.monotonic() < deadline
    said = cli("status", "a").stdout
    assert "  switchover waits for device gpu/0\n" in said
    assert "ETA" not in said
    assert json.loads(cli("status", "--json", "a").stdout)["migration"][
        "x-ferry-waits-for"] == "gpu/0"
    source.qmp("migrate_cancel")
    was = source.wait_migration("cancelled")
    assert "x-ferry-waits-for" not in was


# ---- what goes wrong ---------------------------------------------------------

def expect_stayed(source, target, reason):
    was = source.wait_migration("failed")
    assert reason in was["error-desc"], was["error-desc"]
    assert was["x-ferry-where"] == "source"
    deadline = time.monotonic() + 60
    while source.status() != "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    check_pages(source)


@pytest.mark.parametrize("who", ["source", "target"])
def test_a_keeper_that_is_killed_is_a_sentence(pair, who):
    source, target = pair(extra=words(2, "size=6M,rate=2M"))
    source.migrate(target, "precopy", {"downtime-limit": 1})
    source.wait_migration("active")
    os.kill(keepers(source if who == "source" else target)[1],
            signal.SIGKILL)
    expect_stayed(source, target, "bulk device dev1/0: its process was killed "
                  "by signal 9")
    # The other side was told.
    target.wait_said("bulk device dev1/0")


def test_a_cancel_leaves_the_device_as_it_was(pair, make_vm):
    source, target = pair(extra=words(1, "size=6M,rate=4M,change=1M"))
    source.migrate(target, "postcopy", {"downtime-limit": 60000})
    source.wait_migration("device")
    source.qmp("migrate_cancel")
    source.wait_migration("cancelled")
    assert source.status() == "running"
    again = make_vm("c", incoming="tcp:127.0.0.1:0",
                    extra=words(1, "size=6M"))
    source.migrate(again, "precopy")
    again.wait_migration("completed")
    check_pages(again)


def hang_in_the_pause(pair, settings=None):
    """A source whose device, asked for its state, does not answer."""
    source, target = pair(extra=words(1, "size=8M,rate=4M,live=0"))
    keeper = keepers(source)[0]
    source.migrate(target, "precopy", settings or {})
    source.wait_migration("device")
    os.kill(keeper, signal.SIGSTOP)
    return source, keeper


def test_a_cancel_does_not_wait_for_a_device_that_hangs(pair, make_vm):
    source, keeper = hang_in_the_pause(pair)
    source.qmp("migrate_cancel")
    source.wait_migration("cancelled")
    assert source.status() == "running"
    assert "bulk device dev0/0: its process has been silent for 0.05 s" in (
        source.stderr())
    # What was broken off, in the midst of a block too, does no harm.
    os.kill(keeper, signal.SIGCONT)
    again = make_vm("c", incoming="tcp:127.0.0.1:0",
                    extra=words(1, "size=8M"))
    source.migrate(again, "precopy")
    again.wait_migration("completed")
    check_pages(again)


def test_a_device_that_hangs_is_named_and_not_waited_for_twice(pair):
    source, keeper = hang_in_the_pause(pair)
    was = source.wait_migration("failed")
    assert "bulk device dev0/0: its process has been silent for 10 s" in (
        was["error-desc"])
    assert source.status() == "running"
    assert "the VM goes on here, but" not in source.stderr()
    os.kill(keeper, signal.SIGCONT)


@pytest.mark.parametrize("there, why", [
    (words(1, "size=7M"), "bulk-state.dev0"),
    (words(2), "bulk device \"dev1\"/0 exists on the target only"),
    ([], "bulk device \"dev0\"/0 exists on the source only"),
])
def test_other_devices_are_refused(make_vm, guest, there, why):
    source = make_vm("a", kernel=guest, append="cpus=1", vcpus=1,
                     extra=words(1))
    target = make_vm("b", incoming="tcp:127.0.0.1:0", vcpus=1, extra=there)
    source.migrate(target)
    was = source.wait_migration("failed")
    assert why in was["error-desc"]
    assert target.migration() == "setup"


def test_a_qemu_is_refused(make_vm, guest):
    source = make_vm("a", kernel=guest, append="cpus=1", vcpus=1,
                     extra=words(1))
    source.set({"x-ferry-peer": "qemu"})
    with pytest.raises(QmpError, match="bulk device dev0: a QEMU"):
        source.qmp("migrate", uri="tcp:127.0.0.1:1")


# ---- processes and words -------------------------------------------------------

@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_the_vm(make_vm, guest, how):
    vm = make_vm("a", kernel=guest, append="cpus=1", vcpus=1, extra=words(8))
    pids = keepers(vm)
    assert len(pids) == 8
    vm.signal(how)
    vm.wait_exit()
    are_gone(pids)


@pytest.mark.parametrize("said, why", [
    ("gpu", "size= is missing"),
    (",size=1M", "is no name"),
    ("a b,size=1M", "is no name"),
    ("gpu,size=0", "'size=0' is no size that it can have"),
    ("gpu,size=17G", "'size=17G' is no size that it can have"),
    ("gpu,size=1M,rate=fast", "'rate=fast' is no size"),
    ("gpu,size=1M,depth=3", "'depth=3' is none of size="),
    ("gpu,size=1M,", "'' is none of size="),
    ("gpu,size=1M,size=2M", "gpu: size= is there twice"),
    ("gpu,size=1M,first=0,first=0", "gpu: first= is there twice"),
    ("gpu,size=1M,first=2M", "first= is more than size="),
    ("gpu,size=8M,first=4M,live=0", "that live=0 keeps back"),
])
def test_wrong_words_are_refused(cli, guest, said, why):
    done = cli("run", "--kernel", str(guest), "--bulk-state", said)
    assert done.returncode == 2
    assert why in sentence(done.stderr)


def test_too_many_and_the_same_twice_are_refused(cli, guest):
    done = cli("run", "--kernel", str(guest), *words(9))
    assert done.returncode == 2
    assert "more than 8" in sentence(done.stderr)
    done = cli("run", "--kernel", str(guest), *words(1), *words(1))
    assert done.returncode == 2
    assert "--bulk-state dev0 is there twice" in sentence(done.stderr)


def test_the_keeper_is_no_command_for_people(ferry):
    done = subprocess.run([ferry, "bulk-keeper"], text=True, check=False,
                          capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "a part of `ferry run`" in done.stderr
