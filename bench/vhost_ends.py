# SPDX-License-Identifier: MIT
"""Backends and VMs for bench/run --vhost: ours, and those of DPDK and QEMU.

A backend is a process and the socket at which it is; a VM has one or two of
them and is otherwise as in ends.py.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ends import ANYWHERE, CPUCLOCK_SCHED, QEMU
from ferryvm import Qmp, Serial, Vm
from guestlog import GuestLog

TESTPMD, DAEMON = "dpdk-testpmd", "qemu-storage-daemon"
LIMIT_S = 60            # hangs only


def wait_until(what, test):
    deadline = time.monotonic() + LIMIT_S
    while not test():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {what}")
        time.sleep(0.005)


def cpu_s(process):
    """CPU seconds so far."""
    return time.clock_gettime((~process.pid << 3) | CPUCLOCK_SCHED)


class Backend:
    """Standard input stays open: testpmd ends with it."""

    kind = None         # net or blk

    def __init__(self, folder, name, words):
        self.socket = f"{folder}/{name}.sock"
        self.out = Path(folder, f"{name}.out")
        with open(self.out, "wb") as out:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(
                [str(w).replace("SOCKET", self.socket) for w in words],
                stdin=subprocess.PIPE, stdout=out, stderr=out)
        wait_until(f"{words[0]}: its socket", self.is_there)

    def is_there(self):
        if self.process.poll() is not None:
            raise RuntimeError(self.out.read_text(errors="replace"))
        return os.path.exists(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.process.kill()
        self.process.communicate()


class _Ours(Backend):
    def __init__(self, build, folder, name, *words):
        super().__init__(folder, name, [
            build / "backends" / f"ferry-vhost-{self.kind}", "--socket",
            "SOCKET", "--json", *words])

    def end(self):
        """Its figures."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT_S)
        return json.loads(self.out.read_text().splitlines()[-1])


class FerryNet(_Ours):
    """mode: what testpmd calls it."""
    name, kind = "ferry-vhost-net", "net"
    modes = {"rxonly": "null", "txonly": "txonly", "icmpecho": "echo"}

    @staticmethod
    def missing(build):
        it = build / "backends" / "ferry-vhost-net"
        return None if it.exists() else f"{it} is not built"

    def __init__(self, build, folder, name, mode):
        super().__init__(build, folder, name, "--mode", self.modes[mode],
                         "--frame", "64")


class Testpmd(Backend):
    """One core polls."""
    name, kind = TESTPMD, "net"

    @staticmethod
    def missing(_build):
        if os.cpu_count() < 2:
            return f"{TESTPMD} wants two cores"
        return None if shutil.which(TESTPMD) else \
            f"{TESTPMD} is not installed (dpdk-dev)"

    def __init__(self, _build, folder, name, mode):
        self.prefix = f"ferry-{os.getpid()}-{name}"
        super().__init__(folder, name, [
            TESTPMD, "-l", "0,1", "--no-huge", "--no-pci", "-m", "128",
            f"--file-prefix={self.prefix}", "--no-telemetry", "--vdev",
            "net_vhost0,iface=SOCKET,queues=1,postcopy-support=1", "--", "-i",
            "--no-mlockall", "--total-num-mbufs=4096",
            f"--forward-mode={mode}", "--auto-start"])

    def __exit__(self, *why):
        super().__exit__(*why)
        shutil.rmtree(f"/var/run/dpdk/{self.prefix}", ignore_errors=True)


class FerryBlk(_Ours):
    name, kind = "ferry-vhost-blk", "blk"

    @staticmethod
    def missing(build):
        it = build / "backends" / "ferry-vhost-blk"
        return None if it.exists() else f"{it} is not built"

    def __init__(self, build, folder, name, disk):
        super().__init__(build, folder, name, "--disk", disk)


class Daemon(Backend):
    """With threads, as it does by default."""
    name, kind, aio = DAEMON, "blk", "threads"

    @staticmethod
    def missing(_build):
        return None if shutil.which(DAEMON) else f"{DAEMON} is not installed"

    def __init__(self, _build, folder, name, disk):
        super().__init__(folder, name, [
            DAEMON, "--blockdev", f"driver=file,node-name=f,filename={disk},"
            f"locking=off,aio={self.aio}", "--export",
            "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,"
            "addr.path=SOCKET,writable=on"])


class DaemonUring(Daemon):
    name, aio = f"{DAEMON}, io_uring", "io_uring"


# ---- VMs -----------------------------------------------------------------------

class FerryVm(Vm):
    name = "ferry"

    def __init__(self, build, folder, name, backends, ram_mib, append=None):
        super().__init__(
            build / "ferry", folder, name, vcpus=1, ram=f"{ram_mib}M",
            kernel=append and build / "guest" / "ferry-guest.elf",
            append=append, incoming=None if append else ANYWHERE,
            extra=[w for one in backends
                   for w in (f"--vhost-user-{one.kind}", one.socket)])

    @staticmethod
    def missing(build):
        return None if (build / "ferry").exists() else "ferry is not built"


class QemuVm:
    """A machine "microvm": its virtio is over MMIO too."""
    name = "qemu"
    address, migration = Vm.address, Vm.migration

    @staticmethod
    def missing(_build):
        return None if shutil.which(QEMU) else f"{QEMU} is not installed"

    def __init__(self, build, folder, name, backends, ram_mib, append=None):
        self.qmp = self.serial = None
        self.errors = Path(folder, f"{name}.err")
        at = {what: f"{folder}/{name}.{what}" for what in ("qmp", "serial")}
        words = []
        for i, one in enumerate(backends):
            words += ["-chardev", f"socket,id=c{i},path={one.socket}",
                      "-netdev", f"vhost-user,id=n{i},chardev=c{i}",
                      "-device", f"virtio-net-device,netdev=n{i},"
                      "mac=02:00:00:00:00:01"]
        with open(self.errors, "wb") as err:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen([
                QEMU, "-machine", "microvm,accel=kvm,memory-backend=ram0,"
                "auto-kernel-cmdline=off", "-cpu", "host,-arch-capabilities",
                "-m", str(ram_mib), "-smp", "1", "-nodefaults",
                "-no-user-config", "-display", "none", "-object",
                f"memory-backend-memfd,id=ram0,size={ram_mib}M,share=on",
                "-global", "virtio-mmio.force-legacy=false",
                "-kernel", str(build / "guest" / "ferry-guest.elf"),
                "-append", append or "",
                "-serial", f"unix:{at['serial']},server=on,wait=off",
                "-qmp", f"unix:{at['qmp']},server=on,wait=off",
                *([] if append else ["-incoming", "defer"]), *words,
            ], stdin=subprocess.DEVNULL, stdout=err, stderr=err)
        try:
            self.qmp = Qmp(at["qmp"], self.alive)
            self.serial = Serial(at["serial"], GuestLog(), self.alive)
            self.log = self.serial.log
            if not append:
                self.set({"postcopy-ram": True})
                self.qmp("migrate-incoming", uri=ANYWHERE)
        except Exception as why:
            self.close()
            raise RuntimeError(f"{name}: {why}: {self.stderr()}") from why

    def alive(self):
        return self.process.poll() is None

    def stderr(self):
        return self.errors.read_text(errors="replace")

    def set(self, settings):
        """As of a Vm; what only ferry knows is left out."""
        settings = {k: v for k, v in settings.items() if "x-ferry" not in k}
        caps = [{"capability": k, "state": v} for k, v in settings.items()
                if isinstance(v, bool)]
        if caps:
            self.qmp("migrate-set-capabilities", capabilities=caps)
        rest = {k: v for k, v in settings.items() if not isinstance(v, bool)}
        if rest:
            self.qmp("migrate-set-parameters", **rest)

    def close(self):
        for it in self.serial, self.qmp:
            if it:
                it.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


NETS, DISKS = (FerryNet, Testpmd), (FerryBlk, Daemon, DaemonUring)
VMS = (FerryVm, QemuVm)
