# SPDX-License-Identifier: MIT
"""Backends of ours, and Debian's Linux in a QEMU as their guest."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
for other in ("vm", "linux"):
    sys.path.append(str(HERE.parent / other))

import debian  # noqa: E402
import qemu  # noqa: E402
import tsc  # noqa: E402
from ferryvm import Vm  # noqa: E402

qemu.TIMEOUT = 300              # a boot without KVM, on a busy machine
LIMIT_S = 60                    # for what a backend does; hangs only
RAM_MB = 192
MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev",
           "virtio_pci_legacy_dev", "virtio_pci", "failover", "net_failover",
           "virtio_net", "virtio_blk"]


def pytest_configure(config):
    config.addinivalue_line("markers", "more: in scripts/soak only")


class Backend:
    """One ferry-vhost-net or -blk; told to end, it prints its figures."""

    def __init__(self, folder, program, name, *words, before=()):
        self.socket = str(folder / f"{name}.sock")
        self.log = folder / f"{name}.log"
        self.figures = folder / f"{name}.figures"
        path = Path(os.environ["FERRY_BUILD"], "backends", program)
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [*before, path, "--socket", self.socket, "--json", "--verbose", *words],
            stdin=subprocess.DEVNULL, stdout=self.figures.open("wb"),
            stderr=self.log.open("wb"))
        qemu.wait_until(f"{program}: {self.said()}", self.listens, LIMIT_S)

    def listens(self):
        assert self.process.poll() is None, self.said()
        return qemu.listens(self.socket, self.process.pid)

    def said(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def look(self):
        """Its figures now."""
        before = self.figures.stat().st_size
        self.process.send_signal(signal.SIGUSR1)
        qemu.wait_until("figures", lambda: self.figures.stat().st_size > before
                        and self.figures.read_text().endswith("\n"), LIMIT_S)
        return json.loads(self.figures.read_text().splitlines()[-1])

    def end(self):
        """Its last figures; it ends as it should."""
        self.process.terminate()
        assert self.process.wait(LIMIT_S) == 0, self.said()
        return json.loads(self.figures.read_text().splitlines()[-1])

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def backend(folder):
    made = []

    def make(program, name, *words, **more):
        made.append(Backend(folder, f"ferry-vhost-{program}", name, *words,
                            **more))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("v")


class Console:
    """All that the guest has said, wherever that was."""

    dead = None

    def __init__(self):
        self.text = ""

    def feed(self, data):
        self.text += data.decode("latin-1")

    def last(self, word):
        found = re.findall(rf"^{word} (\d+)", self.text, re.M)
        return int(found[-1]) if found else -1


@pytest.fixture(scope="session")
def initrd(tmp_path_factory):
    files = {"init": (HERE / "guest.sh").read_bytes(),
             "bin/busybox": debian.busybox().read_bytes(),
             "modules/order": " ".join(MODULES).encode()}
    for name in MODULES:
        files[f"modules/{name}.ko"] = debian.module(name).read_bytes()
    path = tmp_path_factory.mktemp("i") / "initrd"
    return debian.initramfs(path, {n: (0o755, d) for n, d in files.items()})


def net(backend):
    return ["-chardev", f"socket,id=c0,path={backend.socket}",
            "-netdev", "vhost-user,id=n0,chardev=c0",
            "-device", "virtio-net-pci,netdev=n0,vectors=0,romfile=,"
            "mac=02:00:00:00:00:01"]


def blk(backend, *options):
    return ["-chardev", f"socket,id=c1,path={backend.socket}", "-device",
            ",".join(["vhost-user-blk-pci,chardev=c1,vectors=0", *options])]


@pytest.fixture
def guest(folder, initrd):
    """Makes QEMUs with that guest; it may move between them."""
    qemu.require_qemu()
    console = Console()
    made = []
    append = ("console=ttyS0 quiet panic=1 "
              f"{tsc.MEASURE_NOTHING}{tsc.tsc_khz()}")

    def make(name, *args):
        made.append(qemu.Qemu(
            folder, name, append, cpus=1, ram_mb=RAM_MB,
            accel=("-accel", "tcg", "-cpu", "max", "-machine",
                   "pc,memory-backend=ram0"),
            kernel=str(debian.bzimage()), log=console,
            args=["-initrd", str(initrd), "-object",
                  f"memory-backend-memfd,id=ram0,size={RAM_MB}M,share=on",
                  *args]))
        return made[-1]

    yield make
    for vm in made:
        vm.close()


@pytest.fixture
def make_vm(folder):
    """VMs of `ferry run`, with the guest that watches itself; the first one
    boots, those with `incoming` wait."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no access to /dev/kvm")
    made = []

    def make(name, devices, append=None, **how):
        made.append(Vm(os.environ["FERRY"], folder, name, ram="128M",
                       kernel=append and os.environ["FERRY_GUEST"],
                       append=append,
                       extra=[w for pair in devices for w in pair], **how))
        return made[-1]

    yield make
    for vm in made:
        vm.close()


def has(one, *words):
    """The option of `ferry run` for a backend of ours."""
    kind = "net" if "ferry-vhost-net" in str(one.process.args) else "blk"
    return f"--vhost-user-{kind}", ",".join([one.socket, *words])
