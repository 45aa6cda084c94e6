# SPDX-License-Identifier: MIT
"""The guest is a sound instrument: it works, and it loses nothing by itself.

Under QEMU, so that ferry has no part in it.
"""

import pytest

import qemu


@pytest.fixture(autouse=True)
def _requirements():
    qemu.require()


@pytest.mark.parametrize("mode", ["seq", "random", "read", "db"])
def test_a_workload_runs_and_finds_nothing(tmp_path, mode):
    cmdline = f"mode={mode} cpus=2 seconds=2 mem=50%"
    with qemu.Qemu(tmp_path, "vm", cmdline) as vm:
        log = vm.wait_end()
    assert log.ready["mode"] == mode and log.ready["cpus"] == 2
    assert log.done["iter"] > 0 and log.done["pages"] > 0
    assert log.done["t"] >= 2
    assert log.done["bad"] == 0 and not log.bad
    assert log.last("VERIFIED")["pages"] == log.ready["pages"]
    assert sum(log.last("HIST").values.values()) >= log.done["iter"]


def test_an_idle_guest_writes_nothing(tmp_path):
    cmdline = "mode=idle cpus=1 seconds=1 mem=1M"
    with qemu.Qemu(tmp_path, "vm", cmdline, cpus=1) as vm:
        log = vm.wait_end()
    assert log.done["pages"] == 0 and log.done["iter"] > 0
    assert log.ready["pages"] == 256


def test_the_rate_is_a_limit(tmp_path):
    cmdline = "cpus=2 seconds=2 mem=8M rate=4M"
    with qemu.Qemu(tmp_path, "vm", cmdline) as vm:
        log = vm.wait_end()
    # 1024 pages a second, and what a late vCPU may catch up.
    assert 0 < log.done["pages"] <= 1024 * (log.done["t"] + 0.3)


def test_samples_are_kept_and_told_when_asked_for(tmp_path):
    cmdline = "mode=random cpus=2 mem=4M trace=10"
    with qemu.Qemu(tmp_path, "vm", cmdline) as vm:
        vm.wait_line("READY")
        vm.type("r")
        began = vm.wait_line("RESET")["t"]
        vm.wait("samples", lambda: vm.log.last("FERRY") and
                vm.log.last("FERRY")["t"] > began + 0.2)
        vm.type("t")
        told = vm.wait_line("TRACED")["samples"]
        samples = vm.log.all("TRACE")
    assert 0 < told == len(samples) <= 1024
    ends = [s["us"] for s in samples]
    assert ends == sorted(ends) and ends[0] >= began * 1e6
    assert sum(s["iter"] for s in samples) > 0
    for s in samples:
        assert s["gap_us"] <= 2 * max(s["gaps"], default=0)


def test_all_memory_is_touched_but_only_the_working_set_rewritten(tmp_path):
    cmdline = "cpus=2 seconds=1 mem=8M touch=all"
    with qemu.Qemu(tmp_path, "vm", cmdline, ram_mb=64) as vm:
        log = vm.wait_end()
    assert log.ready["pages"] == 2048
    assert log.last("VERIFIED")["pages"] == log.last("INIT")["total"] > 12000
    assert log.done["bad"] == 0


@pytest.mark.parametrize("cpu, avx", [("max", 1), ("qemu64", 0)])
def test_the_canary_is_as_wide_as_the_registers(tmp_path, cpu, avx):
    """Without KVM, which may not keep a feature of the host from a guest."""
    with qemu.Qemu(tmp_path, "vm", "cpus=2 seconds=1 mem=1M",
                   accel=["-accel", "tcg", "-cpu", cpu]) as vm:
        log = vm.wait_end()
    assert log.ready["avx"] == avx
    assert log.done["bad"] == 0


def test_what_is_not_understood_is_said(tmp_path):
    with qemu.Qemu(tmp_path, "vm", "foo=1 cpus=1 seconds=1 mem=1M") as vm:
        log = vm.wait_end()
    assert log.last("WARN").text == "WARN unknown key: foo=1"


@pytest.mark.parametrize("cmdline, text", [
    ("mode=sideways", "FATAL bad value: mode=sideways"),
    ("mem=64G", "FATAL mem= is more than there is"),
    ("cpus=2 mem=4096", "FATAL mem= is less than a page per vCPU"),
    ("cpus=2", "FATAL vCPU does not start: cpu=1"),
])
def test_a_guest_that_cannot_do_it_says_so_and_ends(tmp_path, cmdline, text):
    with qemu.Qemu(tmp_path, "vm", cmdline, cpus=1, ram_mb=64) as vm:
        qemu.wait_until("power off", lambda: vm.process.poll() is not None)
        assert vm.poll().dead == text


def test_letters_are_commands(tmp_path):
    with qemu.Qemu(tmp_path, "vm", "cpus=2 mem=4M report=100") as vm:
        vm.wait_line("FERRY")
        vm.type("s")
        assert vm.wait_line("SUMMARY")["bad"] == 0
        vm.type("r")
        vm.wait_line("RESET")
        assert vm.verify()["pages"] == 1024
        iterations = vm.log.last("FERRY")["iter"]
        vm.wait("work goes on", lambda:
                vm.log.last("FERRY")["iter"] > iterations)
        vm.type("q")
        assert vm.wait_end().done["bad"] == 0


def test_a_pause_is_seen_as_a_gap(tmp_path):
    with qemu.Qemu(tmp_path, "vm", "cpus=2 mem=4M report=100") as vm:
        vm.wait_line("FERRY")
        vm.qmp("stop")
        qemu.time.sleep(1)
        vm.qmp("cont")
        # Either the guest's TSC went on, or it was held back with it.
        count = len(vm.poll().all("FERRY"))
        vm.wait_line("FERRY", count + 3)
        assert vm.log.longest_gap_us >= 900000
        assert vm.verify()["bad"] == 0


def test_an_exception_stops_everything_and_says_where(tmp_path):
    with qemu.Qemu(tmp_path, "vm", "cpus=2 mem=4M") as vm:
        vm.wait_line("READY")
        vm.type("X")
        panic = qemu.wait_until("panic", lambda: vm.poll().last("PANIC"))
        assert panic["vector"] == 6 and panic["cpu"] == 0


def test_reset_starts_all_over(tmp_path):
    with qemu.Qemu(tmp_path, "vm", "cpus=2 mem=4M") as vm:
        vm.wait_line("READY")
        vm.type("R")
        vm.wait_line("READY", 2)
        assert vm.verify()["bad"] == 0
