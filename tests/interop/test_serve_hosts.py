# SPDX-License-Identifier: MIT
"""`ferry serve` towards hosts that do what no QEMU should, or leave at the
worst moment: where the VM is then, and that nobody is ever told a lie about
it."""

import contextlib
import json
import os
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

import qemu
from host import Ended, Host, message, pong, shut, wants, wants_more
from source import (OPEN_RETURN_PATH, PAGE, SHUT, STATE, Connection, describe,
                    device, head, page, part, start, tail)

pytestmark = pytest.mark.sanitize

BLOCKS = {"ram": 300, "rom": 4}
# More than a socket holds: who does not read it all cannot have it all.
DEVICES = device(5, "big", bytes(range(256)) * 4096) + STATE
DESCRIPTION = describe(**{"big": 1 << 20, "timer": 24,
                          "0000:00:02.0/e1000": 768, "globalstate": 104})


def fill(number):
    """Every seventh page is zero."""
    return struct.pack(">QQ", number, 1) * 256 if number % 7 else bytes(PAGE)


RAM = b"".join(fill(n) for n in range(BLOCKS["ram"]))
ROM = b"".join(fill(n + 1000) for n in range(BLOCKS["rom"]))


def records(name, memory):
    return b"".join(page(n, memory[n * PAGE:n * PAGE + PAGE], name)
                    for n in range(BLOCKS[name]))


def connect(path, process):
    def attempt():
        assert process.poll() is None
        try:
            return Connection(path)
        except OSError:
            return None

    return qemu.wait_until("park listens", attempt)


def make_image(folder, name, *options):
    """A VM that QEMU's words describe, and no QEMU made."""
    path, door = folder / name, folder / f"{name}.in"
    process = subprocess.Popen([os.environ["FERRY"], "park", "--quiet",
                                "--once", *options, f"unix:{door}", path],
                               stdin=subprocess.DEVNULL)
    source = connect(str(door), process)
    source.say(head("pc-i440fx-7.2"), OPEN_RETURN_PATH, start(BLOCKS),
               part(records("ram", RAM), records("rom", ROM), end=True),
               tail(DEVICES, DESCRIPTION)).hear(SHUT)
    source.close()
    assert process.wait(60) == 0
    return path


@pytest.fixture(scope="module")
def image():
    folder = Path(tempfile.mkdtemp(prefix="ferry-io-"))
    yield make_image(folder, "vm")
    shutil.rmtree(folder)


class Serve:
    """The command, and what became of it."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            [os.environ["FERRY"], "serve", "--quiet", "--json",
             *map(str, words)], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out = self.err = ""

    def hear(self, words):
        """Until it complains of that."""
        line = self.process.stderr.readline()
        assert words in line, line

    def wait(self, timeout=150):
        """(exit code, where it says that the VM is)."""
        self.out, self.err = self.process.communicate(timeout=timeout)
        lines = self.out.splitlines()
        return self.process.returncode, lines and json.loads(
            lines[-1])["where"]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def begun(folder, image):
    """(host, reader, serve) once it has connected."""
    made = []

    def make(*words, state=DEVICES, path=image):
        host = Host(folder, state, f"host{len(made)}")
        made.append(host)
        serve = Serve(path, host.uri, *words)
        made.append(serve)
        return host, host.accept(), serve

    yield make
    for one in made:
        one.close()


# What serve says, and where the VM is then.
SAFE, UNKNOWN, RUNS, DONE = (1, "image"), (3, "undecided"), (3, "split"), \
    (0, "target")


# ---- all goes well ----------------------------------------------------------


def check_memory(host):
    assert not host.twice
    assert host.memory("ram", BLOCKS["ram"]) == RAM
    assert host.memory("rom", BLOCKS["rom"]) == ROM


def test_all_is_said_once_in_precopy(begun):
    host, reader, serve = begun("--precopy")
    reader.until("description")
    host.say(shut())
    assert serve.wait() == DONE
    check_memory(host)


def test_all_is_said_once_in_postcopy(begun):
    host, reader, serve = begun()
    reader.until("RUN")
    host.say(wants("ram", 250), wants_more(17, 3), wants("rom", 2),
             wants_more(2), pong(3), pong(0x42), pong(4))
    reader.until("EOF")
    host.say(shut())
    assert serve.wait() == DONE
    check_memory(host)


# So little that hardly anything comes in its turn: behind the first few
# batches of 64 pages it takes a minute.
SLOW = ["--set", "max-postcopy-bandwidth=6800"]


def test_what_is_asked_for_does_not_wait_for_its_turn(begun):
    host, reader, serve = begun(*SLOW)
    reader.until("RUN")
    host.say(wants("ram", 250), wants_more(17, 3), wants("rom", 2))
    wanted = {("ram", 250), ("ram", 17), ("ram", 18), ("ram", 19), ("rom", 2)}
    for host.enough in range(1, 240):
        reader.until("enough")
        if wanted <= set(host.ram):
            break
    assert wanted <= set(host.ram)
    host.main.close()
    assert serve.wait() == RUNS


def test_requested_pages_have_a_connection_of_their_own(begun):
    host, reader, serve = begun("--preempt", *SLOW)
    urgent = host.accept()
    reader.until("RUN")
    host.say(wants("ram", 299), wants("rom", 3))
    assert urgent.record() and urgent.record()
    assert set(host.ram) == {("ram", 299), ("rom", 3)}
    host.main.close()
    assert serve.wait() == RUNS


def test_with_it_all_is_said_once_and_the_end_of_it(begun):
    host, reader, serve = begun("--preempt")
    urgent = host.accept()
    reader.until("RUN")
    reader.until("EOF")
    assert not urgent.record()
    host.say(shut())
    assert serve.wait() == DONE
    check_memory(host)


# ---- split brain: where the VM is, when the way back is lost ----------------


def read_nothing(_host, _reader):
    pass


def up_to(*what, some=0):
    """And so many octets of what follows."""
    def read(host, reader):
        host.enough = 150 if "enough" in what else None
        reader.until(*what)
        if some:
            reader.some(some)

    return read


def loaded(host, reader):
    reader.until("RUN")
    host.say(pong(3), pong(0x42), pong(4))


def asked(host, reader):
    loaded(host, reader)
    host.say(wants("ram", 299))
    host.enough = 20
    reader.until("enough")


def said_shut(*last):
    def read(host, reader):
        reader.until(*last)
        host.say(shut())

    return read


# Where the connection ends, as a whole: what serve says.
PRECOPY = {
    "accepted": (read_nothing, SAFE),
    "header": (up_to("head"), SAFE),
    "block list": (up_to("block list"), SAFE),
    "PONG 1": (up_to("ping"), SAFE),
    "half of the pages": (up_to("enough"), SAFE),
    "all pages": (up_to("end"), SAFE),
    "half of the devices": (up_to("devices", some=1 << 19), SAFE),
    "the last octet": (up_to("description"), UNKNOWN),
    "SHUT": (said_shut("description"), DONE),
}
POSTCOPY = {
    "accepted": (read_nothing, SAFE),
    "header": (up_to("head"), SAFE),
    "ADVISE": (up_to("advise"), SAFE),
    "block list": (up_to("block list"), SAFE),
    "PONG 1": (up_to("ping"), SAFE),
    "what is missing": (up_to("discard"), SAFE),
    "half of the package": (up_to("package", some=1 << 19), SAFE),
    "the package": (up_to("RUN"), RUNS),
    "PONG 0x42": (loaded, RUNS),
    "a page that was asked for": (asked, RUNS),
    "the last page": (up_to("end"), RUNS),
    "the end": (up_to("EOF"), RUNS),
    "SHUT": (said_shut("EOF"), DONE),
}
MODES = {"precopy": (["--precopy"], PRECOPY), "postcopy": ([], POSTCOPY)}
BOUNDARIES = [(mode, where) for mode, (_, rows) in MODES.items()
              for where in rows]


@pytest.mark.parametrize("mode, where", BOUNDARIES)
def test_a_host_that_leaves_at_each_message(begun, mode, where):
    words, rows = MODES[mode]
    read, outcome = rows[where]
    host, reader, serve = begun(*words)
    read(host, reader)
    host.main.close()
    assert serve.wait() == outcome, serve.err


@pytest.mark.parametrize("mode, where", BOUNDARIES)
def test_only_the_way_back_is_lost_at_each_message(begun, mode, where):
    """The host reads on.  If it gets enough to run, serve does not say that it
    does not run there; and before its PONG it does not get enough."""
    words, rows = MODES[mode]
    read, outcome = rows[where]
    host, reader, serve = begun(*words)
    read(host, reader)
    host.no_way_back()
    enough = {"precopy": "description", "postcopy": "RUN"}[mode]
    if enough in reader.rest():
        outcome = UNKNOWN if mode == "precopy" else RUNS
    assert serve.wait() == outcome, serve.err
    if where in ("accepted", "header", "ADVISE", "block list"):
        assert outcome == SAFE


@pytest.mark.parametrize("mode, where, outcome", [
    ("precopy", "header", SAFE), ("precopy", "half of the pages", SAFE),
    # Its word that it does not run: a QEMU says so when devices do not load.
    ("precopy", "the last octet", SAFE),
    ("postcopy", "block list", SAFE),
    ("postcopy", "half of the package", SAFE),
    # One that runs already may say it, too.
    ("postcopy", "the package", RUNS), ("postcopy", "the last page", RUNS),
])
def test_a_host_that_says_that_it_failed(begun, mode, where, outcome):
    words, rows = MODES[mode]
    host, reader, serve = begun(*words)
    rows[where][0](host, reader)
    host.say(shut(1))
    assert serve.wait() == outcome, serve.err
    assert "the target gave up" in serve.err


@pytest.mark.parametrize("mode, where, push, outcome", [
    ("precopy", "header", "on", SAFE),
    ("precopy", "half of the pages", "on", SAFE),
    ("postcopy", "header", "on", SAFE),
    ("postcopy", "the package", "on", RUNS),
    ("postcopy", "the package", "off", RUNS),
    ("postcopy", "a page that was asked for", "on", RUNS),
])
def test_a_host_that_says_too_early_that_it_has_all(begun, mode, where, push,
                                                    outcome):
    words, rows = MODES[mode]
    host, reader, serve = begun("--set", f"x-ferry-background-push={push}",
                                *words)
    rows[where][0](host, reader)
    host.say(shut())
    # So slowly that serve has heard it long before it has said all.
    with contextlib.suppress(Ended):
        while reader.take(PAGE):
            time.sleep(0.01)
    assert serve.wait() == outcome, serve.err
    assert "has all of the VM before all was sent" in serve.err


# ---- what no host should say ------------------------------------------------


GARBAGE = {
    "no message": (bytes(8), "return path: message 0x0000"),
    "an unknown message": (message(9), "message 0x0009"),
    "one of ferry's": (message(0x4001, bytes(4)), "is not for this peer"),
    "a SHUT of no length": (message(1), "malformed SHUT of 0 octets"),
    "a long one": (message(3, bytes(900)), "REQ_PAGES_ID of 900 octets"),
    "a request that names no block": (wants_more(0), "that names no block"),
    "a page of no block": (wants("video", 0), "for block video, which there "
                           "is not"),
    "a page past the end": (wants("ram", 300), "page request"),
    "pages past the end": (wants("ram", 299, 2), "page request"),
    "half a page": (message(4, struct.pack(">QI", 2048, 2048)),
                    "malformed REQ_PAGES"),
    "no pages": (wants("ram", 0, 0), "malformed REQ_PAGES_ID"),
    "all there is": (message(3, struct.pack(">QI", 0, 0xfffff000) +
                             b"\3ram"), "REQ_PAGES_ID"),
    "text": (b"HTTP/1.0 200 OK\r\n\r\n", "message 0x4854"),
}


@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize("runs", [False, True], ids=["before", "after"])
def test_garbage_on_the_way_back_is_told_in_a_sentence(begun, what, runs):
    octets, says = GARBAGE[what]
    host, reader, serve = begun()
    reader.until("RUN" if runs else "block list")
    host.say(octets)
    reader.rest()
    assert serve.wait() == (RUNS if runs else SAFE), serve.err
    assert serve.err.count("\n") == 1
    assert says in serve.err or (not runs and what.endswith("pages"))


def test_pages_are_not_asked_for_before_postcopy(begun):
    host, reader, serve = begun("--precopy")
    host.enough = 150
    reader.until("enough")
    host.say(wants("ram", 299))
    reader.rest()
    assert serve.wait() == SAFE
    assert "asks for pages of block ram before postcopy" in serve.err


def test_a_flood_of_requests_is_answered_once(begun):
    host, reader, serve = begun()
    reader.until("RUN")
    flood = b"".join(wants("ram", n % 300) for n in range(30000))

    def say():
        with contextlib.suppress(OSError):
            host.say(flood)

    speaker = threading.Thread(target=say, daemon=True)
    speaker.start()
    reader.until("EOF")
    speaker.join(30)
    assert not speaker.is_alive()
    host.say(shut())
    assert serve.wait() == DONE, serve.err
    check_memory(host)


def test_who_asks_and_does_not_read_is_given_up(begun):
    host, reader, serve = begun("--set", "x-ferry-timeout=1000")
    reader.until("RUN")
    host.say(*(wants("ram", n) for n in range(300)))
    assert serve.wait() == RUNS, serve.err
    assert serve.err.count("\n") == 1
    assert "the peer did nothing for too long" in serve.err


@pytest.mark.parametrize("mode, where, outcome", [
    ("precopy", "accepted", SAFE), ("precopy", "block list", SAFE),
    ("precopy", "half of the pages", SAFE),
    ("precopy", "half of the devices", SAFE),
    ("postcopy", "accepted", SAFE), ("postcopy", "block list", SAFE),
    ("postcopy", "half of the package", SAFE),
    ("postcopy", "the package", RUNS),
])
def test_a_host_that_stalls_is_given_up(begun, mode, where, outcome):
    words, rows = MODES[mode]
    host, reader, serve = begun("--set", "x-ferry-timeout=1000", *words)
    rows[where][0](host, reader)
    assert serve.wait() == outcome, serve.err
    assert serve.err.count("\n") == 1
    assert "the peer did nothing for too long" in serve.err or \
        "the target says nothing" in serve.err


# ---- being told to stop -----------------------------------------------------


@pytest.mark.parametrize("mode, where", [
    ("precopy", "accepted"), ("precopy", "half of the pages"),
    ("precopy", "half of the devices"), ("postcopy", "block list"),
])
def test_who_is_told_to_stop_takes_it_back(begun, mode, where):
    words, rows = MODES[mode]
    host, reader, serve = begun(*words)
    rows[where][0](host, reader)
    serve.process.terminate()
    if where == "half of the devices":      # committed, but not handed over
        serve.hear("too late to cancel")
        host.main.close()
    assert serve.wait() == SAFE, serve.err


@pytest.mark.parametrize("mode, where, outcome", [
    ("precopy", "the last octet", UNKNOWN), ("postcopy", "the package", RUNS),
    ("postcopy", "the end", RUNS),
])
def test_when_it_is_too_late_to_stop_it_takes_two(begun, mode, where,
                                                  outcome):
    words, rows = MODES[mode]
    host, reader, serve = begun(*words)
    rows[where][0](host, reader)
    serve.process.terminate()
    serve.hear("it goes on, unless told once more")
    serve.process.terminate()
    assert serve.wait() == outcome, serve.err
    assert "told to stop" in serve.err


def test_it_goes_on_when_it_is_too_late_to_stop(begun):
    host, reader, serve = begun()
    reader.until("RUN")
    serve.process.terminate()
    serve.hear("it goes on, unless told once more")
    reader.until("EOF")
    host.say(shut())
    assert serve.wait() == DONE, serve.err
    check_memory(host)


def test_who_waits_for_a_host_to_come_back_can_be_told_to_stop(begun):
    host, reader, serve = begun("--recover")
    reader.until("RUN")
    host.listener.close()
    host.main.close()
    serve.hear("waiting for the host to listen again")
    serve.process.terminate()
    assert serve.wait() == RUNS, serve.err


def test_a_host_that_runs_nothing_yet_is_not_waited_for(begun):
    host, reader, serve = begun("--recover", "--precopy")
    reader.until("description")
    host.main.close()
    assert serve.wait() == UNKNOWN, serve.err


# ---- images that are none ---------------------------------------------------


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:]


def piece(data, number):
    """Where a piece of the image lies: chunk table, device state, index."""
    return struct.unpack_from(">Q", data, 56 + 24 * number)[0]


IMAGES = {
    "empty": (lambda _: b"", "this is no image of a parked VM"),
    "a qcow2": (lambda _: b"QFI\xfb\0\0\0\3" + bytes(1 << 16),
                "this is no image of a parked VM"),
    "a stream of QEMU's": (lambda _: head("pc-i440fx-7.2") + bytes(9000),
                           "this is no image of a parked VM"),
    "another version": (lambda image: image[:11] + b"\2" + image[12:], ""),
    "cut in its head": (lambda image: image[:4000], ""),
    "cut in its memory": (lambda image: image[:1 << 20], ""),
    "cut at its end": (lambda image: image[:-1], ""),
    "longer than it says": (lambda image: image + b"\0", ""),
    "a bit of its head": (lambda image: flipped(image, 45), "damaged"),
    "a bit of its chunk table": (lambda image: flipped(
        image, piece(image, 0) + 3), "chunk table does not match its hash"),
    "a bit of its devices": (lambda image: flipped(
        image, piece(image, 1) + 99), "device state does not match its hash"),
    "a bit of its index": (lambda image: flipped(
        image, piece(image, 2) + 9), "index does not match its hash"),
}


@pytest.mark.parametrize("what", IMAGES)
def test_what_is_no_image_is_refused_before_anybody_is_called(folder, image,
                                                              what):
    """A QEMU that waits ends when it is called by mistake."""
    make, says = IMAGES[what]
    path = folder / "bad"
    path.write_bytes(make(image.read_bytes()))
    host = Host(folder, DEVICES)
    serve = Serve(path, host.uri)
    assert serve.wait() == (1, [])
    assert serve.err.count("\n") == 1 and str(path) in serve.err
    assert says in serve.err
    host.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        host.accept()
    host.close()


# The first chunk of memory.
BAD_PAGES = {("ram", n) for n in range(16)}


@pytest.fixture(params=[[], ["--zstd"]], ids=["raw", "zstd"])
def damaged(request, folder):
    """An image with a bit that changed in the first 16 pages of RAM."""
    path = make_image(folder, "damaged", *request.param)
    data = path.read_bytes()
    at = struct.unpack_from(">Q", data, piece(data, 0))[0]
    path.write_bytes(flipped(data, at + 200))
    return path


# Who would wait for another link is told at once that none brings it.
@pytest.mark.parametrize("words, outcome", [(["--precopy"], SAFE),
                                            ([], RUNS), (["--recover"], RUNS)],
                         ids=["precopy", "postcopy", "recover"])
def test_a_page_that_is_damaged_is_never_sent(begun, damaged, words, outcome):
    host, reader, serve = begun(*words, path=damaged)
    heard = []
    with contextlib.suppress(Ended, ConnectionError):
        heard.append(reader.until("RUN", "description"))
        host.say(wants("ram", 299), wants("ram", 2))
        reader.until("EOF")
    assert serve.wait() == outcome
    assert serve.err.count("\n") == 1
    assert f"{damaged}: the image is damaged: memory of block ram at 0x0 does " \
        "not match its hash" in serve.err
    assert ("end it there, and serve a whole copy" in serve.err) == (
        outcome == RUNS)
    assert ("description" in heard or "RUN" in heard) == (outcome == RUNS)
    assert not BAD_PAGES & set(host.ram)


def test_all_of_an_image_is_checked_on_request(folder, damaged):
    host = Host(folder, DEVICES)
    serve = Serve("--verify", damaged, host.uri)
    assert serve.wait() == (1, [])
    assert "the image is damaged: memory of block ram at 0x0" in serve.err
    host.listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        host.accept()
    host.close()
