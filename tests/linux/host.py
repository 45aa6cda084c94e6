# SPDX-License-Identifier: MIT
"""A "host" that is a QEMU without KVM: Debian's kernel with a KVM of its own.

    a = Host(folder, "a", kernel, initrd, tsc_khz(), wire, mac)
    a.reach()
    a.booted()
    a("ferry doctor")                           # what it printed
    vm = a.vm("web", "--kernel /vmlinux")
    vm.wait(r"TICK 3 ")

Nothing here depends on speed: every wait ends with what the host's console
said last.
"""

import json
import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path

import debian
from tsc import MEASURE_NOTHING

HERE = Path(__file__).parent

LIMIT_S = float(os.environ.get("FERRY_LINUX_LIMIT_S", "600"))  # only for hangs
QEMU = "qemu-system-x86_64"
# Not virtual GIF: as QEMU 7.2 and 10.0 emulate it, an interrupt of the host is
# let through in between leaving the guest and having the host's registers
# back.  Not two CPUs: with those, a guest that had just moved ended in a triple
# fault, or one of its vCPUs stood still, in one of ten moves, again in both
# versions.  With one, and without virtual GIF, neither was ever seen.
CPU = "max,-vgif"
CPUS = "1"
TAIL = 3000             # characters of a log that are shown


# Modules, in the order in which they can be loaded.
KVM = ["irqbypass", "kvm", "kvm-amd"]
NETWORK = ["virtio_ring", "virtio", "virtio_pci_modern_dev",
           "virtio_pci_legacy_dev", "virtio_pci", "failover", "net_failover",
           "virtio_net", "sch_netem"]


def archive(path, modules, files, more=None):
    """What a host runs: files is {name: octets}, more as initramfs() has it."""
    files = {"init": (HERE / "host/init").read_bytes(),
             "bin/busybox": debian.busybox().read_bytes(),
             "modules/order": " ".join(modules).encode(), **files}
    for name in modules:
        files[f"modules/{name}.ko"] = debian.module(name).read_bytes()
    files = {name: (0o755, data) for name, data in files.items()}
    return debian.initramfs(path, files | (more or {}), packed=False)


def qemu(kernel, initrd, khz):
    """The host's command line, but for what it is connected to."""
    return [QEMU, "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", CPUS,
            "-m", "2048", "-nodefaults", "-no-user-config", "-display",
            "none", "-no-reboot", "-kernel", str(kernel), "-initrd",
            str(initrd), "-append", "console=ttyS0 quiet panic=1 "
            f"{MEASURE_NOTHING}{khz}"]


class Failed(Exception):
    """A command in the host ended with another code than 0."""

    def __init__(self, command, code, said):
        super().__init__(f"{command}: exit code {code}\n{said[-TAIL:]}")
        self.code, self.said = code, said


class Late(Exception):
    """Something did not happen."""


class Host:
    """One QEMU.  wire: QEMU's -netdev options, without id."""

    def __init__(self, folder, name, kernel, initrd, khz, wire, mac):
        self.name = name
        self.log_path = f"{folder}/{name}.log"
        shell = f"{folder}/{name}.shell"
        self.vms = []
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [*qemu(kernel, initrd, khz),
             "-serial", f"file:{self.log_path}",
             "-chardev", f"socket,id=shell,path={shell},server=on,wait=off",
             "-serial", "chardev:shell", "-netdev", f"{wire},id=net",
             "-device", f"virtio-net-pci,netdev=net,mac={mac},romfile="],
            stdin=subprocess.DEVNULL)
        self.rest = b""
        self.sock = None
        self.shell = shell

    def reach(self):
        """Connect to its shell, before that says anything."""
        deadline = time.monotonic() + LIMIT_S
        self.sock = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.sock.connect(self.shell)
                break
            except OSError:
                if self.process.poll() is not None or \
                        time.monotonic() > deadline:
                    raise Late(f"QEMU {self.name}: no shell") from None
                time.sleep(0.05)

    def booted(self):
        """Wait until the shell is there."""
        self._answer("boot", LIMIT_S)

    def console(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def _more(self, what, deadline):
        self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            data = b""
        if not data:
            raise Late(f"{self.name} (QEMU: {self.process.poll()}): no answer "
                       f"to: {what}\n{self.rest[-TAIL:]!r}\n"
                       f"{self.console()[-TAIL:]}")
        self.rest += data

    def _answer(self, what, limit_s):
        deadline = time.monotonic() + limit_s
        while b"\n" not in self.rest:
            self._more(what, deadline)
        head, self.rest = self.rest.split(b"\n", 1)
        code, octets = (int(word) for word in head.split())
        while len(self.rest) < octets:
            self._more(what, deadline)
        said, self.rest = self.rest[:octets], self.rest[octets:]
        return code, said.decode("latin-1")     # an octet, a character

    def run(self, command, limit_s=LIMIT_S):
        """(exit code, what it printed) of a line for the shell."""
        self.sock.sendall(command.encode() + b"\n")
        return self._answer(command, limit_s)

    def __call__(self, command, limit_s=LIMIT_S):
        code, said = self.run(command, limit_s)
        if code:
            raise Failed(command, code, said)
        return said

    def vm(self, name, options, user="root"):
        self.vms.append(Vm(self, name, options, user))
        return self.vms[-1]

    def clear(self):
        """End what was started in it, and let the network be as it was."""
        self.run("killall -9 ferry; ip link set eth0 up; "
                 "/usr/sbin/tc qdisc del dev eth0 root")
        for vm in self.vms:
            vm.wait_exit()
            self(f"rm -f {vm.path}.*")
        self.vms.clear()

    def close(self):
        """Its VMs end with it."""
        if self.sock:
            self.sock.close()
        self.process.kill()
        self.process.wait()


class Vm:
    """One `ferry run` in a host.  Its serial port is a file that grows and a
    pipe to write to."""

    def __init__(self, host, name, options, user):
        self.host, self.name, self.user = host, name, user
        self.path = f"/tmp/{name}"
        host(f"mkfifo -m 666 {self.path}.in; : >{self.path}.out")
        # Not in the foreground of anything, and no end of file.
        run = (f"ferry run --name {name} {options} --cpu-mask xsave "
               f"--qmp {self.path}.qmp; echo $? >{self.path}.code")
        host(f"chmod 666 {self.path}.out; "
             f"setsid {self._as_user(run)} <>{self.path}.in "
             f">>{self.path}.out 2>{self.path}.err &")
        self.seen = ""
        self.octets = 0

    def _as_user(self, command):
        return f"su {self.user} -s /bin/sh -c {shlex.quote(command)}"

    def ferry(self, words, limit_s=LIMIT_S):
        """(exit code, output) of a ferry command, run by the VM's user."""
        return self.host.run(self._as_user(f"ferry {words}"), limit_s)

    def say(self, word):
        self.host(f"echo {word} >{self.path}.in")

    def console(self):
        """All it has written to the serial port so far."""
        new = self.host(f"tail -c +{self.octets + 1} {self.path}.out")
        self.octets += len(new)
        self.seen += new
        return self.seen

    def errors(self):
        return self.host.run(f"cat {self.path}.err")[1]

    def code(self):
        """Its exit code, or None while it runs."""
        said = self.host.run(f"cat {self.path}.code")[1]
        return int(said) if said.strip().isdigit() else None

    def until(self, what, test):
        deadline = time.monotonic() + LIMIT_S
        while True:
            got = test()
            if got is not None:
                return got
            if time.monotonic() > deadline:
                raise Late(f"VM {self.name}: {what} did not come\n"
                           f"{self.console()[-TAIL:]}\n{self.errors()}")
            time.sleep(0.3)

    def wait(self, pattern, times=1):
        """Until the guest's console has this so often; the last match."""
        def look():
            found = list(re.finditer(pattern, self.console(), re.M))
            if len(found) >= times:
                return found[-1]
            if self.code() is not None:
                raise Late(f"VM {self.name} has ended, without {pattern}\n"
                           f"{self.console()[-TAIL:]}\n{self.errors()}")
            return None
        return self.until(pattern, look)

    def ask(self, word, answer):
        """Say a word and wait for the next such line."""
        before = len(re.findall(answer, self.console(), re.M))
        self.say(word)
        return self.wait(answer, before + 1)

    def wait_exit(self):
        return self.until("its end", self.code)

    def listening(self):
        """Wait until a migration can come."""
        def look():
            code, said = self.status()
            if self.code() is not None:
                raise Late(f"VM {self.name} has ended:\n{self.errors()}")
            return code == 0 and said["migration"].get("status") or None
        self.until("a QMP socket", look)

    def status(self):
        code, said = self.ferry(f"status --json {self.path}.qmp")
        return code, json.loads(said) if code == 0 else said

    def migrate(self, to, options):
        """(exit code, what `ferry migrate` printed)."""
        return self.ferry(f"migrate {self.path}.qmp {to} {options}")
