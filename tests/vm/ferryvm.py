# SPDX-License-Identifier: MIT
"""VMs of `ferry run`, driven from Python: for tests, benchmarks and the demo.

    with Vm(ferry, tmp, "a", kernel=guest, append="cpus=2") as a, \\
         Vm(ferry, tmp, "b", incoming="tcp:127.0.0.1:0") as b:
        a.serial.wait(lambda log: log.ready)
        a.migrate(b, "postcopy")
        b.wait_migration("completed")
        b.serial.ask("v", "VERIFIED")["bad"]

Every process is ended by its pid, every socket lies in the folder given.
"""

import json
import os
import signal
import socket
import subprocess
import threading
import time

from guestlog import GuestLog

PATIENCE = float(os.environ.get("FERRY_PATIENCE", "120"))  # only for hangs

# How to move: what is set of capabilities and parameters before `migrate`.
MODES = {
    "precopy": {"postcopy-ram": False},
    "precopy+postcopy": {"x-ferry-precopy-passes": 1},
    "postcopy": {"x-ferry-precopy-passes": 0},
}
ENDS = ("completed", "failed", "cancelled", "postcopy-paused")


class QmpError(Exception):
    """What {"error": ...} said."""


class Dead(Exception):
    """The process has ended while something was wanted of it."""


def connect(path, alive=lambda: True, timeout=PATIENCE):
    """A unix socket, as soon as somebody listens."""
    deadline = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if not alive():
                raise Dead(f"{path}: its process has ended") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


class Qmp:
    """A QMP client.  Events are kept in .events, in order."""

    def __init__(self, path, alive=lambda: True, timeout=PATIENCE):
        self.sock = connect(path, alive, timeout)
        self.rest = b""
        self.events = []
        self.greeting = self._read(timeout)
        self("qmp_capabilities")

    def _read(self, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while b"\n" not in self.rest:
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("QMP: the VM closed the connection")
            self.rest += data
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def __call__(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = {k.replace("_", "-"): v
                                    for k, v in arguments.items()}
        self.sock.settimeout(PATIENCE)
        self.sock.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(answer["error"]["desc"])
            else:
                return answer["return"]

    def forget_events(self):
        """What was told up to now."""
        self("query-name")
        self.events.clear()

    def wait_event(self, name, timeout=PATIENCE, **data):
        """The first event of this name whose data has these values."""
        deadline = time.monotonic() + timeout
        seen = 0
        while True:
            for event in self.events[seen:]:
                seen += 1
                if event["event"] == name and all(
                        event.get("data", {}).get(k) == v
                        for k, v in data.items()):
                    return event
            self.next_event(deadline - time.monotonic())

    def next_event(self, timeout=PATIENCE):
        """Wait for one more in .events."""
        answer = self._read(timeout)
        if "event" in answer:
            self.events.append(answer)

    def close(self):
        self.sock.close()


class Serial:
    """The guest's serial port, read by a thread into a GuestLog."""

    def __init__(self, path, log, alive=lambda: True):
        self.log = log
        self.changed = threading.Condition()
        self.raw = b""
        self.sock = connect(path, alive)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            with self.changed:
                if data:
                    self.raw += data
                    self.log.feed(data)
                self.changed.notify_all()
            if not data:
                return

    def send(self, text):
        self.sock.sendall(text.encode())

    def renew(self):
        """What was said here so far belongs to an earlier stay."""
        with self.changed:
            self.log = GuestLog()
            self.raw = b""

    def wait(self, test, timeout=PATIENCE, what="the guest to say it"):
        """Until test(log) is true; returns what it returned."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                got = test(self.log)
                if got:
                    return got
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"waited for {what}; last was: "
                                       f"{self.raw[-300:]!r}")
                self.changed.wait(left)

    def ask(self, letter, word, timeout=PATIENCE):
        """Type a letter and wait for the next line with this word."""
        with self.changed:
            before = sum(1 for line in self.log.lines if line.word == word)
        self.send(letter)
        return self.wait(
            lambda log: (lambda found: found[before:] and found[before])(
                [line for line in log.lines if line.word == word]),
            timeout, f"{word} after '{letter}'")

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join()
        self.sock.close()


class Weight:
    """What a process has resident: the guest's RAM, and the rest.  The RAM is
    the only mapping of its size; it may fall apart later."""

    def __init__(self, pid, ram_bytes):
        self.pid, self.guest = pid, None
        with open(f"/proc/{pid}/maps", errors="replace") as maps:
            for low, high in map(self._range, maps):
                if high - low == ram_bytes:
                    self.guest = low, high
        if not self.guest:
            raise ValueError(f"no mapping of {ram_bytes} bytes")

    @staticmethod
    def _range(line):
        return tuple(int(x, 16) for x in line.split(None, 1)[0].split("-"))

    def __call__(self):
        """Bytes: {"own": ..., "guest": ...}"""
        total = {"own": 0, "guest": 0}
        with open(f"/proc/{self.pid}/smaps", errors="replace") as maps:
            for line in maps:
                word, *rest = line.split(None, 2)
                if not word.endswith(":"):
                    low = self._range(line)[0]
                    whose = "guest" if self.guest[0] <= low < self.guest[1] \
                        else "own"
                elif word == "Rss:" or word.endswith("_Hugetlb:"):
                    total[whose] += int(rest[0]) << 10
        return total


def bytes_of(size):
    """Of 128M or 1G; None for what is meant to be refused."""
    shift = {"M": 20, "G": 30}.get(size[-1:])
    return int(size[:-1]) << shift if shift and size[:-1].isdigit() else None


class Vm:
    """One `ferry run`.  serial: None for a socket of our own, else as ferry
    takes it; wrapper: words before the command."""

    def __init__(self, ferry, folder, name, *, vcpus=2, ram="1G", kernel=None,
                 append=None, incoming=None, log=None, extra=(), serial=None,
                 wrapper=(), preexec=None, stdio=subprocess.DEVNULL):
        self.folder, self.name = str(folder), name
        self.ram_bytes = bytes_of(ram)
        self.qmp_path = f"{folder}/{name}.qmp"
        self.serial_path = f"{folder}/{name}.serial"
        args = [*wrapper, str(ferry), "run", "--name", name,
                "--vcpus", str(vcpus), "--ram", ram, "--qmp", self.qmp_path,
                "--serial", serial or f"unix:{self.serial_path}"]
        if kernel:
            args += ["--kernel", str(kernel)]
        if append:
            args += ["--append", append]
        if incoming:
            args += ["--incoming", incoming]
        args += extra
        self.stderr_path = f"{folder}/{name}.stderr"
        env = dict(os.environ, FERRY_RUNTIME_DIR=self.folder)
        with open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(args, stderr=err, env=env,
                                            stdin=stdio, stdout=stdio,
                                            preexec_fn=preexec)
        self.qmp = self.serial = self.log = None
        try:
            self.qmp = Qmp(self.qmp_path, self.alive)
            if not serial:
                self.serial = Serial(self.serial_path, log or GuestLog(),
                                     self.alive)
                self.log = self.serial.log
        except Exception as why:
            self.kill()
            raise RuntimeError(f"{name}: {self.stderr()}") from why

    def alive(self):
        return self.process.poll() is None

    def wait_said(self, text, timeout=PATIENCE):
        """Until it is on stderr: what one side hears, the other says later."""
        deadline = time.monotonic() + timeout
        while text not in self.stderr():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not say {text!r}: "
                                   f"{self.stderr()}")
            time.sleep(0.005)

    def stderr(self):
        with open(self.stderr_path, errors="replace") as err:
            return err.read()

    # ---- migration ---------------------------------------------------------

    def address(self):
        """Where an incoming migration is awaited, as a URI."""
        at = self.qmp("query-migrate")["socket-address"][0]
        if at["type"] == "unix":
            return f"unix:{at['path']}"
        host = f"[{at['host']}]" if ":" in at["host"] else at["host"]
        return f"tcp:{host}:{at['port']}"

    def set(self, settings):
        """Capabilities and parameters alike, by name."""
        known = {c["capability"] for c in
                 self.qmp("query-migrate-capabilities")}
        caps = [{"capability": k, "state": v} for k, v in settings.items()
                if k in known]
        if caps:
            self.qmp("migrate-set-capabilities", capabilities=caps)
        rest = {k: v for k, v in settings.items() if k not in known}
        if rest:
            self.qmp("migrate-set-parameters", **rest)

    def migrate(self, to, mode="precopy", settings=()):
        """Begin; to is a Vm or a URI."""
        self.set({"postcopy-ram": True, "x-ferry-precopy-passes": 1000,
                  **MODES[mode], **dict(settings)})
        self.qmp("migrate", uri=to.address() if isinstance(to, Vm) else to)

    def migration(self):
        """The status of query-migrate, or None without a migration."""
        return self.qmp("query-migrate").get("status")

    def wait_migration(self, *states, timeout=PATIENCE):
        """Until it is in one of these; any other end is an error."""
        deadline = time.monotonic() + timeout
        while True:
            now = self.qmp("query-migrate")
            if now.get("status") in states:
                return now
            if now.get("status") in ENDS:
                raise RuntimeError(f"{self.name}: {now}\n{self.stderr()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: waited for {states}: {now}")
            time.sleep(0.005)

    def status(self):
        return self.qmp("query-status")["status"]

    # ---- the process -------------------------------------------------------

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def memory(self):
        """Resident bytes: {"own": heap, code and stacks, "guest": RAM}."""
        return Weight(self.process.pid, self.ram_bytes)()

    def wait_exit(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    def signal(self, number):
        self.process.send_signal(number)

    def freeze(self):
        """SIGSTOP, and until all of its threads stand: on a busy host they run
        on for a while after it was sent.  A vCPU that waits, in the kernel,
        for a page of the guest's page tables does not stop at all (it runs no
        guest, but spins there), and who would bring the page has stopped: let
        it come, and try again."""
        self.signal(signal.SIGSTOP)
        while not self._stands_within(0.3):
            self.signal(signal.SIGCONT)
            time.sleep(0.3)
            self.signal(signal.SIGSTOP)

    def _stands_within(self, seconds):
        folder = f"/proc/{self.process.pid}/task"
        deadline = time.monotonic() + seconds
        while any(self._state(f"{folder}/{task}/stat") not in "TtZX"
                  for task in os.listdir(folder)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    @staticmethod
    def _state(path):
        try:
            with open(path, errors="replace") as stat:
                return stat.read().rpartition(")")[2].split()[0]
        except OSError:             # it has just ended
            return "X"

    def kill(self):
        if self.alive():
            self.process.kill()
        self.process.wait()

    def close(self):
        self.signal(signal.SIGCONT)     # one that sleeps does not quit
        if self.serial:
            self.serial.close()
        if self.qmp:
            try:
                self.qmp("quit")
            except QmpError:            # it may not: half a VM, say
                self.process.kill()
            except OSError:
                pass
            self.qmp.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()
