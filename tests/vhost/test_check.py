# SPDX-License-Identifier: MIT
"""`ferry vhost-check`: our own backends pass, and one that does a single thing
wrong fails just where that is seen."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest

import qemu

FERRY = os.environ["FERRY"]
BACKENDS = Path(os.environ["FERRY_BUILD"], "backends")
LIMIT_S = 300
HEAD = struct.Struct("<III")


def check(path, *words):
    """(exit code, {check: its row}, the sum)"""
    if "--timeout" not in words:    # for hangs only
        words = ("--timeout", "60000", *words)
    done = subprocess.run([FERRY, "vhost-check", "--json", *words, str(path)],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          timeout=LIMIT_S, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {row["check"]: row for row in rows[:-1]}, rows[-1]


def failed(rows):
    return {name: row["why"] for name, row in rows.items()
            if row["verdict"] == "FAIL"}


@pytest.fixture(name="disk")
def a_disk(folder, backend):
    (folder / "disk").write_bytes(bytes(1 << 20))
    return backend("blk", "disk", "--disk", str(folder / "disk"))


def test_a_disk_of_ours_passes(disk):
    code, rows, total = check(disk.socket, "--device", "blk")
    assert not failed(rows) and code == 0
    assert total["pass"] >= 67 and not total["not tried"]


def test_a_network_of_ours_passes(backend):
    net = backend("net", "net", "--mode", "echo")
    code, rows, total = check(net.socket, "--device", "net")
    assert not failed(rows) and code == 0
    assert total["pass"] >= 65 and not total["not tried"]


def test_a_device_that_is_not_named_is_asked_for_nothing(disk):
    code, rows, _ = check(disk.socket)
    assert code == 0 and not failed(rows)
    assert rows["request"]["verdict"] == "not tried"
    assert "--device" in rows["request"]["why"]


class Spoiler:
    """Between the check and a backend: messages pass, those from the backend
    through spoil(request, flags, payload, fds) -> the same."""

    def __init__(self, folder, backend, spoil):
        self.path, self.backend, self.spoil = folder / "spoilt", backend, spoil
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                front, _ = self.listener.accept()
            except OSError:
                return
            back = socket.socket(socket.AF_UNIX)
            back.connect(self.backend)
            for ends in ((front, back, None), (back, front, self.spoil)):
                threading.Thread(target=self.carry, args=ends,
                                 daemon=True).start()

    @staticmethod
    def carry(source, sink, spoil):
        try:
            while True:
                data, fds, _, _ = socket.recv_fds(source, HEAD.size, 8)
                while data and len(data) < HEAD.size:
                    data += source.recv(HEAD.size - len(data))
                if not data:
                    break
                request, flags, size = HEAD.unpack(data)
                body = b""
                while len(body) < min(size, 4096):
                    more = source.recv(size - len(body))
                    if not more:
                        break
                    body += more
                if spoil:
                    request, flags, body, fds = spoil(request, flags, body,
                                                      fds)
                    size = len(body)
                socket.send_fds(sink, [HEAD.pack(request, flags, size) + body],
                                fds)
                for fd in fds:
                    os.close(fd)
        except OSError:
            pass
        for end in source, sink:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def reply(of, spoil):
    """Spoil the answer to one request."""
    def every(request, flags, body, fds):
        if request == of:
            return spoil(request, flags, body, fds)
        return request, flags, body, fds
    return every


def with_body(change):
    return lambda request, flags, body, fds: (request, flags, change(body),
                                              fds)


def without_fds(request, flags, body, fds):
    for fd in fds:
        os.close(fd)
    return request, flags, body, []


def ours_again(body):
    """The memory table with a region's address as the front-end has it."""
    body = bytearray(body)
    if len(body) > 24:
        body[8 + 16:8 + 24] = struct.pack("<Q", 0x7e0000000000)
    return bytes(body)


SPOILT = {
    "need_reply stays in answers":
        (lambda r, f, b, fds: (r, f | 8, b, fds), "features", "0xd, not 0x5"),
    "an answer to another request":
        (reply(1, lambda r, f, b, fds: (2, f, b, fds)), "features",
         "request 2"),
    "features change":
        (reply(1, with_body(lambda b: os.urandom(4) + b[4:])), "features",
         "then 0x"),
    "VERSION_1 is missing":
        (reply(1, with_body(lambda b: b[:4] + bytes(4))), "virtio-1",
         "VERSION_1"),
    "no queues":
        (reply(17, with_body(lambda b: bytes(8))), "queues", "0 queues"),
    "a ring stands at 0 always":
        (reply(11, with_body(lambda b: b[:4] + bytes(4))), "base-kept",
         "is at 0"),
    "a ring's answer is another ring's":
        (reply(11, with_body(lambda b: b"\5" + b[1:])), "base-zero",
         "ring 5, asked for 0"),
    "no userfaultfd comes":
        (reply(28, without_fds), "advise", "0 descriptors"),
    "LISTEN fails":
        (reply(29, with_body(lambda b: b"\1" + bytes(7))), "listen",
         "refused (1)"),
    "our own addresses come back":
        (reply(5, with_body(ours_again)), "table", "not the backend's"),
    "END fails":
        (reply(30, with_body(lambda b: b"\1" + bytes(7))), "table",
         "POSTCOPY_END: 1"),
    "an area for requests without a descriptor":
        (reply(31, without_fds), "inflight", "0 descriptors"),
    "whatever is bad is fine":
        (reply(8, with_body(lambda b: bytes(8))), "ring-vast",
         "acknowledged as done"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_backend_with_one_fault_fails_where_it_is(disk, folder, what):
    spoil, name, why = SPOILT[what]
    spoiler = Spoiler(folder, disk.socket, spoil)
    try:
        code, rows, _ = check(spoiler.path, "--device", "blk", "--only", name)
    finally:
        spoiler.listener.close()
    assert code == 1 and why in rows[name]["why"], rows


def test_a_backend_that_ends_is_started_again(folder):
    """One that serves a single front-end: all checks run all the same."""
    (folder / "disk").write_bytes(bytes(1 << 20))
    path = folder / "once.sock"
    code, rows, total = check(
        path, "--device", "blk", "--only", "many", "--only", "base-zero",
        "--run", f"exec {BACKENDS}/ferry-vhost-blk --once --disk "
        f"{folder}/disk --socket {path}")
    assert code in (0, 1) and total["pass"] + total["FAIL"] == 2, rows
    assert not path.exists() or not socket.socket(
        socket.AF_UNIX).connect_ex(str(path)) == 0


def test_one_that_connects_to_us_is_accepted(folder):
    (folder / "disk").write_bytes(bytes(1 << 20))
    path = folder / "ours.sock"
    # pylint: disable-next=consider-using-with
    backend = subprocess.Popen(
        [BACKENDS / "ferry-vhost-blk", "--connect", "--disk",
         folder / "disk", "--socket", path], stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    try:
        code, rows, _ = check(path, "--listen", "--device", "blk", "--only",
                              "rings", "--timeout", "20000")
        assert code == 0, failed(rows)
    finally:
        backend.terminate()
        backend.wait()


def test_nobody_at_the_socket_is_said(folder):
    done = subprocess.run([FERRY, "vhost-check", folder / "none"],
                          stderr=subprocess.PIPE, timeout=LIMIT_S,
                          check=False)
    assert done.returncode == 5
    assert f"no backend is at {folder}/none" in done.stderr.decode()


@pytest.mark.skipif(not shutil.which("qemu-storage-daemon"),
                    reason="no qemu-storage-daemon")
def test_faults_of_another_backend_are_found(folder):
    """What is wrong with libvhost-user of 7.2, as docs/VHOST.md has it."""
    (folder / "disk").write_bytes(bytes(1 << 20))
    path = folder / "qsd.sock"
    code, rows, _ = check(
        path, "--timeout", "5000",      # some of them are silence
        "--device", "blk", "--only", "log-bounds", "--only", "table",
        "--only", "many", "--only", "one-answer",
        "--run", "exec qemu-storage-daemon --blockdev driver=file,node-name=f,"
        f"filename={folder}/disk --export type=vhost-user-blk,id=e,"
        f"addr.type=unix,addr.path={path},node-name=f,writable=on 2>/dev/null")
    assert code == 1 and rows["many"]["verdict"] == "pass", rows
    assert "signal Aborted" in rows["log-bounds"]["why"]
    assert "not the backend's" in rows["table"]["why"]
    assert "0xd, not 0x5" in rows["one-answer"]["why"]


def test_who_listens_and_accepts_nobody_is_not_waited_for(folder):
    with socket.socket(socket.AF_UNIX) as deaf, \
            socket.socket(socket.AF_UNIX) as waiting:
        deaf.bind(str(folder / "deaf.sock"))
        deaf.listen(0)
        waiting.connect(str(folder / "deaf.sock"))  # the queue is full
        code, rows, _ = check(folder / "deaf.sock", "--timeout", "50",
                              "--only", "handshake")
    assert code == 1 and len(failed(rows)) == len(rows)


def test_a_file_that_is_no_socket_stays(folder):
    (folder / "disk.img").write_text("precious")
    code, rows, _ = check(folder / "disk.img", "--run", "exit 3", "--only",
                          "features")
    assert code == 1 and "exit code 3" in rows["features"]["why"]
    assert (folder / "disk.img").read_text() == "precious"


HANGS = "echo $$ > {pid}; exec sleep 1000"


def is_gone(pid):
    """Or nobody has asked yet how it ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return True
    return stat.rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.parametrize("sig, command", [
    (signal.SIGINT, HANGS), (signal.SIGTERM, HANGS), (signal.SIGHUP, HANGS),
    (signal.SIGINT, "trap '' TERM; " + HANGS), (signal.SIGKILL, HANGS)])
def test_its_backend_ends_with_it(folder, sig, command):
    """As by Ctrl-C, which the backend, in a group of its own, does not get."""
    pid = folder / "pid"
    # pylint: disable-next=consider-using-with
    checker = subprocess.Popen(     # nohup ignores SIGHUP for all below it
        ["env", "--default-signal", FERRY, "vhost-check", "--run",
         command.format(pid=pid), folder / "none"], stdin=subprocess.DEVNULL)
    qemu.wait_until("backend", lambda: pid.exists() and pid.read_text(),
                    LIMIT_S)
    checker.send_signal(sig)
    assert checker.wait(LIMIT_S) == -sig
    backend = int(pid.read_text())
    if sig == signal.SIGKILL:   # then it is the kernel that ends it
        qemu.wait_until("end of the backend", lambda: is_gone(backend),
                        LIMIT_S)
    assert is_gone(backend)
