# SPDX-License-Identifier: MIT
"""`ferry serve` lets a VM run before it has read its image, and sends first what
the VM is waiting for.  Nothing here is about how long that takes."""

import os
import subprocess
import time
from pathlib import Path

import pytest

import qemu
from host import Host, shut, wants
from source import (DESCRIPTION, OPEN_RETURN_PATH, PAGE, SHUT, STATE,
                    Connection, head, page, part, start, tail, zero)

pytestmark = pytest.mark.sanitize

PAGES, CHUNK = 8192, 16         # 32 MiB; pages of a chunk
FAR = PAGES - CHUNK - 1        # holds something
# What serve may have read, of 32 MiB: tables, and what a socket takes.
LITTLE = 4 << 20


def is_empty(number):
    """Every third chunk."""
    return number // CHUNK % 3 == 1


def fill(number):
    return (number + 1).to_bytes(8, "big") * (PAGE // 8)


def connect(path):
    try:
        return Connection(path)
    except OSError:
        return None


@pytest.fixture
def image(folder):
    path = folder / "vm"
    park = subprocess.Popen([os.environ["FERRY"], "park", "--quiet", "--once",
                             f"unix:{folder}/in", path],
                            stdin=subprocess.DEVNULL)
    source = qemu.wait_until("park listens", lambda: connect(f"{folder}/in"))
    source.say(head("pc-i440fx-7.2"), OPEN_RETURN_PATH, start({"ram": PAGES}),
               part(*(zero(n, "ram") if is_empty(n) else
                      page(n, fill(n), "ram") for n in range(PAGES)),
                    end=True),
               tail(STATE, DESCRIPTION)).hear(SHUT)
    source.close()
    assert park.wait(60) == 0
    return path


@pytest.fixture
def begun(folder, image):
    """(host, reader of its main connection, process of serve)."""
    host = Host(folder, STATE)
    serve = subprocess.Popen([os.environ["FERRY"], "serve", "--quiet",
                              "--preempt", image, host.uri],
                             stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL)
    yield host, host.accept(), serve
    serve.kill()
    serve.wait()
    host.close()


def octets_read(process):
    """By read() and its kin, sockets apart."""
    said = Path(f"/proc/{process.pid}/io").read_text("ascii")
    return int(said.split("rchar:")[1].split()[0])


def test_a_vm_runs_before_its_image_was_read(begun):
    host, reader, serve = begun
    urgent = host.accept()
    reader.until("RUN")
    assert octets_read(serve) < LITTLE
    # Who is read from no more may read on only as far as a socket goes.
    time.sleep(1)
    assert octets_read(serve) < LITTLE
    # What is asked for comes all the same.
    host.say(wants("ram", FAR))
    assert urgent.record()
    assert host.ram == {("ram", FAR): fill(FAR)}
    assert octets_read(serve) < LITTLE


def test_memory_that_holds_nothing_comes_last(begun):
    host, reader, serve = begun
    urgent = host.accept()
    reader.until("RUN")
    host.say(wants("ram", CHUNK))       # but for what is asked for
    assert urgent.record()
    assert host.ram[("ram", CHUNK)] == bytes(PAGE)
    early = len(host.ram)
    reader.until("EOF")
    while urgent.record():
        pass
    host.say(shut())
    assert serve.wait(60) == 0

    assert not host.twice and len(host.ram) == PAGES
    empty = [is_empty(n) for _, n in list(host.ram)[early:]]
    assert empty == sorted(empty)
    for (_, n), data in host.ram.items():
        assert data == (bytes(PAGE) if is_empty(n) else fill(n))
