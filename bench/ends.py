# SPDX-License-Identifier: MIT
"""The two ends of a migration, as the harness sees any of them.

An end is a process with the test guest in it, or one that waits for it.  All
have the same calls, so that what is measured does not depend on who it is:

    source = Ferry(setup, folder, "a")
    target = Ferry(setup, folder, "b", waits=True)
    target.expect(mode); source.expect(mode)
    source.go(target.address(), mode)
    source.wait_end(60); target.wait_end(60)

A further kind of end is a further class here and a row in PAIRS.
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ferryvm import ENDS, MODES, Qmp, QmpError, Serial, Vm, Weight, connect
from guestlog import GuestLog

QEMU = os.environ.get("FERRY_QEMU", "qemu-system-x86_64")
# Boots in a tenth of the time where ring 0 is emulated.
FAST_BIOS = "/usr/share/qemu/qboot.rom"
ANYWHERE = "tcp:127.0.0.1:0"
CPUCLOCK_SCHED = 2              # of clock_gettime()'s clocks of a process


def name_of(task):
    """Of a thread in /proc; of one that has just ended, nothing."""
    try:
        return (task / "comm").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


@dataclass
class Setup:
    """What all ends of a run have in common."""
    build: Path
    ram_mib: int
    vcpus: int
    append: str

    @property
    def guest(self):
        return self.build / "guest" / "ferry-guest.elf"


@dataclass
class Mode:
    name: str
    plan: str               # one of ferryvm.MODES
    urgent: bool            # a connection of their own for requested pages

    @property
    def postcopy(self):
        return self.plan != "precopy"


class End:
    """Calls that are the same for all; a subclass starts the process."""

    process = qmp = serial = weight = None

    # ---- the migration -----------------------------------------------------

    def address(self):
        at = self.qmp("query-migrate")["socket-address"][0]
        return f"tcp:{at['host']}:{at['port']}"

    def capabilities(self, **on):
        self.qmp("migrate-set-capabilities", capabilities=[
            {"capability": name.replace("_", "-"), "state": state}
            for name, state in on.items()])

    def wait_end(self, seconds):
        """The state it ended in, told by an event; None: it has not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in self.qmp.events:
                if event["event"] == "MIGRATION" and \
                        event["data"]["status"] in ENDS:
                    return event["data"]["status"]
            try:
                self.qmp.next_event(deadline - time.monotonic())
            except TimeoutError:
                break
        return None

    # ---- what it costs -----------------------------------------------------

    def vcpu_threads(self):
        """Thread ids."""
        raise NotImplementedError

    def cpu_s(self):
        """CPU seconds so far, but for the vCPUs'."""
        pid = self.process.pid
        total = time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)
        for tid in self.vcpu_threads():
            with open(f"/proc/{pid}/task/{tid}/schedstat",
                      encoding="ascii") as stat:
                total -= int(stat.read().split()[0]) / 1e9
        return total

    def own_kib(self):
        """Resident memory beyond the guest's."""
        return self.weight()["own"] >> 10

    def close(self):
        for it in self.serial, self.qmp:
            if it:
                it.close()
        if self.process:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


@functools.cache
def credentials(build):
    """A folder for all ends that speak TLS, gone with this process."""
    folder = tempfile.mkdtemp(prefix="ferry-bench-tls-")
    atexit.register(shutil.rmtree, folder)
    subprocess.run([build / "ferry", "tls-init", f"{folder}/creds"],
                   check=True)
    return f"{folder}/creds"


class Ferry(End):
    name = "ferry"
    tls = False

    @staticmethod
    def missing(build):
        ferry = build / "ferry"
        return None if ferry.exists() else f"{ferry} is not built"

    def __init__(self, setup, folder, name, waits=False):
        how = {"incoming": ANYWHERE} if waits else \
            {"kernel": setup.guest, "append": setup.append}
        if self.tls:
            how["extra"] = ["--set", f"tls-creds={credentials(setup.build)}"]
        self.vm = Vm(setup.build / "ferry", folder, name, vcpus=setup.vcpus,
                     ram=f"{setup.ram_mib}M", **how)
        self.process, self.qmp = self.vm.process, self.vm.qmp
        self.serial = self.vm.serial
        self.weight = Weight(self.process.pid, setup.ram_mib << 20)

    def expect(self, mode):
        self.capabilities(postcopy_ram=mode.postcopy,
                          postcopy_preempt=mode.urgent)

    def go(self, uri, mode):
        self.vm.set({"x-ferry-precopy-passes": 1000, **MODES[mode.plan]})
        self.qmp("migrate", uri=uri)

    def vcpu_threads(self):
        return [int(t.name) for t in
                Path(f"/proc/{self.process.pid}/task").iterdir()
                if name_of(t).startswith("vcpu")]

    def first_beat_ns(self):
        return self.qmp("x-ferry-heartbeat")["first-ns"]

    def last_beat_ns(self):
        return self.qmp("x-ferry-heartbeat")["last-ns"]

    def fault_waits(self, _source):
        """Of the target: how long faults waited, by the engine's account."""
        f = self.qmp("query-migrate").get("x-ferry-faults", {})
        count = f.get("count", 0)
        if not count:
            return {"faults": 0}
        return {"faults": count, "fault_mean_us": f["sum-us"] / count,
                "fault_p50_us": f["p50-us"], "fault_p99_us": f["p99-us"]}

    def said(self):
        return self.vm.stderr()


class Beats:
    """Stamps the bytes that the guest writes to a port, as they come out of
    QEMU: first and last, by CLOCK_MONOTONIC."""

    def __init__(self, path, alive):
        self.sock = connect(path, alive)
        self.first = self.last = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:                    # a stamp must not wait for its turn
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            pass
        while True:
            try:
                data = self.sock.recv(4096)
            except OSError:
                return
            if not data:
                return
            self.last = time.monotonic_ns()
            self.first = self.first or self.last

    def close(self):
        self.sock.close()


class FerryTls(Ferry):
    name = "ferry-tls"
    tls = True


class Qemu(End):
    name = "qemu"
    tls = False
    serial_kind = Serial

    @staticmethod
    def missing(_build):
        return None if shutil.which(QEMU) else f"{QEMU} is not installed"

    def __init__(self, setup, folder, name, waits=False):
        self.beats = None
        self.errors = Path(folder) / f"{name}.err"
        at = {what: f"{folder}/{name}.{what}"
              for what in ("qmp", "serial", "beats")}
        bios = ["-bios", FAST_BIOS] if os.path.exists(FAST_BIOS) else []
        with open(self.errors, "wb") as err:
            self.process = subprocess.Popen([
                QEMU, "-name", f"{name},debug-threads=on", "-accel", "kvm",
                "-cpu", "host,-arch-capabilities", *bios,
                "-smp", str(setup.vcpus), "-m", str(setup.ram_mib),
                "-kernel", str(setup.guest), "-append", setup.append,
                "-nodefaults", "-no-user-config", "-display", "none",
                "-serial", f"unix:{at['serial']},server=on,wait=off",
                "-chardev", f"socket,id=beats,path={at['beats']},"
                "server=on,wait=off",
                "-device", "isa-debugcon,iobase=0xfe,chardev=beats",
                "-qmp", f"unix:{at['qmp']},server=on,wait=off",
                *(["-incoming", "defer"] if waits else ["-S"]),
                *self.more_words(setup, waits),
            ], stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        try:
            self.qmp = Qmp(at["qmp"], self.alive)
            self.weight = Weight(self.process.pid, setup.ram_mib << 20)
            self.serial = self.serial_kind(at["serial"], GuestLog(),
                                           self.alive)
            self.beats = Beats(at["beats"], self.alive)
            self.capabilities(events=True)
            if not waits:       # nobody would have heard it before
                self.qmp("cont")
        except Exception as why:
            self.close()
            raise RuntimeError(f"{name}: {why}: {self.said()}") from why

    def alive(self):
        return self.process.poll() is None

    def more_words(self, setup, waits):
        """That not every kind has."""
        if not self.tls:
            return []
        end = "server" if waits else "client"
        return ["-object", f"tls-creds-x509,id=tls0,endpoint={end},"
                f"dir={credentials(setup.build)}"]

    def expect(self, mode):
        if self.tls:
            self.qmp("migrate-set-parameters", tls_creds="tls0")
        self.capabilities(postcopy_ram=mode.postcopy,
                          postcopy_preempt=mode.urgent)
        if self.qmp("query-status")["status"] == "inmigrate":
            self.capabilities(postcopy_blocktime=mode.postcopy)
            self.qmp("migrate-incoming", uri=ANYWHERE)
        else:
            self.qmp("migrate-set-parameters", max_bandwidth=1 << 40)

    def go(self, uri, mode):
        if mode.plan == "precopy+postcopy":
            # The pass that is to be the last must not end the migration.
            self.qmp("migrate-set-parameters", downtime_limit=1)
        self.qmp("migrate", uri=uri)
        if mode.plan == "precopy+postcopy":
            self.qmp.wait_event("MIGRATION_PASS", **{"pass": 2})
        if mode.postcopy:
            try:
                self.qmp("migrate-start-postcopy")
            except QmpError:    # it is over
                pass

    def vcpu_threads(self):
        return [c["thread-id"] for c in self.qmp("query-cpus-fast")]

    def first_beat_ns(self):
        return self.beats.first

    def last_beat_ns(self):
        return self.beats.last

    def fault_waits(self, source):
        """QEMU 7.2 adds up whole ms, and tells no percentiles; who asked how
        often is known at the source."""
        waited = sum(self.qmp("query-migrate").get(
            "postcopy-vcpu-blocktime", []))
        count = source.qmp("query-migrate")["ram"].get("postcopy-requests", 0)
        if not count:
            return {"faults": 0}
        return {"faults": count, "fault_mean_us": waited * 1000 / count}

    def said(self):
        return self.errors.read_text(errors="replace")

    def close(self):
        if self.beats:
            self.beats.close()
        super().close()


class QemuTls(Qemu):
    """By certificates: the cipher is AES-256-GCM then."""
    name = "qemu-tls"
    tls = True


# Who moves to whom; `bench/run --pair` takes the names.
PAIRS = {
    "ferry": (Ferry, Ferry),
    "qemu": (Qemu, Qemu),
}
# Beside them with --tls.
SECURE_PAIRS = {
    "ferry-tls": (FerryTls, FerryTls),
    "qemu-tls": (QemuTls, QemuTls),
}
ALL_PAIRS = {**PAIRS, **SECURE_PAIRS}
