# SPDX-License-Identifier: MIT
"""VMs of `ferry run`, driven from Python: for tests, benchmarks and the demo.

    with Vm(ferry, tmp, "a", kernel=guest, append="cpus=2") as a:
        a.log.wait("READY")
        a.qmp("query-status")["status"]

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

PATIENCE = 120          # seconds; only catches hangs


class QmpError(Exception):
    """What {"error": ...} said."""


class Qmp:
    """A QMP client.  Events are kept in .events, in order."""

    def __init__(self, path, timeout=PATIENCE):
        deadline = time.monotonic() + timeout
        while True:
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                self.sock.connect(path)
                break
            except OSError:
                self.sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        self.sock.settimeout(timeout)
        self.file = self.sock.makefile("rb")
        self.events = []
        self.greeting = self._read()
        self("qmp_capabilities")

    def _read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("QMP: the VM closed the connection")
        return json.loads(line)

    def __call__(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = {k.replace("_", "-"): v
                                    for k, v in arguments.items()}
        self.sock.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(answer["error"]["desc"])
            else:
                return answer["return"]

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
            if time.monotonic() > deadline:
                raise TimeoutError(f"no event {name} {data}")
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)

    def close(self):
        self.file.close()
        self.sock.close()


class Serial:
    """The guest's serial port, read by a thread into a GuestLog."""

    def __init__(self, path, log):
        self.log = log
        self.changed = threading.Condition()
        self.raw = b""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                self.sock.connect(path)
                break
            except OSError:
                self.sock.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
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


class Vm:
    """One `ferry run`."""

    def __init__(self, ferry, folder, name, *, vcpus=2, ram="1G", kernel=None,
                 append=None, incoming=None, log=None, extra=()):
        self.folder, self.name = str(folder), name
        self.qmp_path = f"{folder}/{name}.qmp"
        self.serial_path = f"{folder}/{name}.serial"
        args = [str(ferry), "run", "--name", name, "--vcpus", str(vcpus),
                "--ram", ram, "--qmp", self.qmp_path,
                "--serial", f"unix:{self.serial_path}"]
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
                                            stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL)
        try:
            self.qmp = Qmp(self.qmp_path)
            self.serial = Serial(self.serial_path, log or GuestLog())
        except Exception as why:
            self.kill()
            raise RuntimeError(f"{name}: {self.stderr()}") from why
        self.log = self.serial.log

    def stderr(self):
        with open(self.stderr_path, errors="replace") as err:
            return err.read()

    def address(self):
        """Where an incoming migration is awaited, as a URI."""
        at = self.qmp("query-migrate")["socket-address"][0]
        if at["type"] == "unix":
            return f"unix:{at['path']}"
        host = f"[{at['host']}]" if ":" in at["host"] else at["host"]
        return f"tcp:{host}:{at['port']}"

    def wait_exit(self, timeout=PATIENCE):
        return self.process.wait(timeout)

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        if hasattr(self, "serial"):
            self.serial.close()
        if hasattr(self, "qmp"):
            try:
                self.qmp("quit")
            except (QmpError, OSError, ConnectionError):
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
