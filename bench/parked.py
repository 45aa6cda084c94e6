# SPDX-License-Identifier: MIT
"""`ferry park` and `ferry serve` as the ends of a migration whose other end is
a QEMU; with the calls of ends.End that such a migration has."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

from ends import Qemu
from ferryvm import QmpError, Serial

PATIENCE_S = 60
LOOK_S = 0.02


class Command:
    """A ferry that ends by itself.  The memory that it has of its own is
    looked at all the time: that is one short file."""

    def __init__(self, build, *words):
        self.began_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            [build / "ferry", *words], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.usage = None
        self.anonymous_kib = 0
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def _watch(self):
        path = Path(f"/proc/{self.process.pid}/status")
        while not self.over.wait(LOOK_S):
            try:
                said = path.read_text(encoding="ascii")
            except OSError:
                return
            for line in said.splitlines():
                if line.startswith("RssAnon:"):
                    self.anonymous_kib = max(self.anonymous_kib,
                                             int(line.split()[1]))

    def wait(self):
        """The JSON object that it ends with.  Its CPU seconds are known
        then."""
        _, status, self.usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.over.set()
        told = self.process.stdout.read()
        if self.process.returncode:
            raise RuntimeError(told + self.process.stderr.read())
        return json.loads(told)

    def cpu_s(self):
        return self.usage.ru_utime + self.usage.ru_stime

    def close(self):
        self.over.set()
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.close()


class Park(Command):
    def __init__(self, setup, image, mode):
        self.said = None
        super().__init__(setup.build, "park", "--once", "--json",
                         *["--preempt"] * mode.urgent, "tcp:127.0.0.1:0",
                         image)
        first = self.process.stderr.readline()
        if not first.startswith("waiting at "):
            self.close()
            raise RuntimeError(f"park: {first}")
        self.uri = first.split()[-1]

    def address(self):
        return self.uri


class Serve(Command):
    def __init__(self, setup, image, address, urgent):
        super().__init__(setup.build, "serve", "--json",
                         *["--preempt"] * urgent, image, address)


class Stamped(Serial):
    """Knows when the first whole line came."""

    first_line_ns = 0

    def _read(self):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            pass
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                data = b""
            now = time.monotonic_ns()
            with self.changed:
                if data:
                    self.raw += data
                    if self.log.feed(data) and not self.first_line_ns:
                        self.first_line_ns = now
                self.changed.notify_all()
            if not data:
                return


class Qemu2(Qemu):
    """A QEMU whose other end is a ferry."""

    serial_kind = Stamped

    def wait_line(self):
        """Stamp of the first line it says here."""
        self.serial.wait(lambda _: self.serial.first_line_ns, PATIENCE_S)
        return self.serial.first_line_ns

    def listen(self, mode, uri="tcp:127.0.0.1:0"):
        self.capabilities(postcopy_ram=mode.postcopy,
                          postcopy_preempt=mode.urgent)
        self.qmp("migrate-incoming", uri=uri)

    def save(self, path):
        """The whole VM into a plain file; then it goes on."""
        self.capabilities(postcopy_ram=False, postcopy_preempt=False,
                          return_path=False)
        self.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
        self.qmp("migrate", uri=f"exec:cat > {path}")
        state = self.wait_end(PATIENCE_S)
        if state != "completed":
            raise RuntimeError(f"into {path}: {state}")
        deadline = time.monotonic() + PATIENCE_S
        while self.qmp("query-status")["status"] != "postmigrate" and \
                time.monotonic() < deadline:
            time.sleep(0.001)
        self.qmp.forget_events()
        self.qmp("cont")

    def leave(self, uri, mode):
        """To a park."""
        self.capabilities(postcopy_ram=mode.postcopy,
                          postcopy_preempt=mode.urgent, return_path=True)
        self.qmp("migrate-set-parameters", max_bandwidth=1 << 40)
        self.qmp("migrate", uri=uri)
        if mode.postcopy:
            try:
                self.qmp("migrate-start-postcopy")
            except QmpError:    # it is over
                pass


class Qemu2Filed(Qemu2):
    """A destination that has its memory in a file, as park has."""

    def __init__(self, setup, folder, name, path):
        self.path = path
        super().__init__(setup, folder, name, waits=True)

    def more_words(self, setup, waits):
        return ["-object", "memory-backend-file,id=pc.ram,share=on,"
                f"size={setup.ram_mib}M,mem-path={self.path}",
                "-machine", "memory-backend=pc.ram"]
