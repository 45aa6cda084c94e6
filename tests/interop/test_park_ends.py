# SPDX-License-Identifier: MIT
"""What is in the image, and where the VM is, when the source of `ferry park`
leaves at one message or another, and when it comes back."""

import contextlib
import glob
import os
import socket
import struct
import time
from pathlib import Path

import pytest

import qemu
from parked import (BLOCKS, DISCARD, LATER, NEW, all_pages, aside, begin,
                    check, hear_some, package, records, returning, whole,
                    zeroes)
from source import (OPEN_RETURN_PATH, PONG, SHUT, command, head, part, ping,
                    start, str8, tail)

pytestmark = pytest.mark.sanitize

# ---- a source that comes back -----------------------------------------------


def recv_bitmap(name):
    return command(10, str8(name))


def bitmap(name, here, pages):
    words = bytearray((pages + 63) // 64 * 8)
    for n in here:
        words[n // 8] |= 1 << n % 8
    return struct.pack(">HH", 5, 1 + len(name)) + str8(name) + struct.pack(
        ">Q", len(words)) + bytes(words) + struct.pack(
            ">Q", 0x0123456789abcdef)


def wait_package(main):
    """Until park has acted on it, and has read the ping behind it."""
    while PONG[4] not in main.heard:
        more = main.sock.recv(4096)
        assert more, main.heard.hex()
        main.heard += more


def wait_written(p, page):
    """Until it is in a file of the image."""
    while not any(page in Path(name).read_bytes()
                  for name in glob.glob(f"{p.one.image}.*")
                  if os.path.isfile(name)):
        time.sleep(0.02)


def come_back(p, here):
    """A new main, told what has come.  It is sent away while park is not
    done with the package, and tries again, as an operator would."""
    until = time.monotonic() + 60
    main = None
    while main is None or not main.heard:
        assert time.monotonic() < until, "it is always sent away"
        main = p.connect().say(recv_bitmap("ram"), recv_bitmap("rom"))
        with contextlib.suppress(ConnectionError):
            main.heard += main.sock.recv(4096)
    return main.hear(bitmap("ram", here, 300) + bitmap("rom", range(4), 4))


RESUMED = struct.pack(">HHI", 6, 4, 1)


@pytest.mark.parametrize("again", [1, 3])
def test_a_source_that_comes_back_is_told_what_is_missing(park, again):
    p = returning(park)
    main = begin(p, "pc-i440fx-7.2")
    here = {n for n in range(300) if n not in LATER}
    main.say(DISCARD, ping(2), package(False), ping(4))
    main.hear(PONG[2])
    wait_package(main)
    left = list(LATER.items())
    for _ in range(again):
        some, left = left[:20], left[20:]
        # The last page does not come whole.
        main.say(part(records(dict(some)))[:-1000]).said()
        time.sleep(0.05)
        main.close()
        lost = some.pop()
        left.insert(0, lost)
        here |= {n for n, _ in some}
        main = come_back(p, here)
    main.say(command(9)).hear(RESUMED)
    main.say(part(records(dict(left))), part(end=True), b"\0").hear(SHUT)
    assert "waiting for the source to come back" in p.one.said()
    check(p, whole() | LATER, description=b"")


def test_a_source_may_come_back_before_it_was_missed(park):
    """The old connection lives, as far as park knows.  With preempt."""
    p = returning(park, "--preempt")
    main = begin(p, "pc-q35-8.0")
    urgent = p.connect()
    main.say(DISCARD, ping(2), package(False), ping(4)).hear(PONG[2])
    wait_package(main)
    first = {n: data for n, data in LATER.items() if n < 60}
    urgent.say(records(first)).said()
    wait_written(p, first[max(first)])
    # Strangers cannot do that.
    for opening in (command(10, b"\3who")[:5] + b"\3who",
                    recv_bitmap("video"), b"\x08\0\x0a\0\0"):
        stranger = p.connect().say(opening).said()
        stranger.sock.shutdown(1)
        assert stranger.ended()
    time.sleep(0.1)
    back = come_back(p, {n for n in range(300) if n not in LATER} |
                     set(first))
    urgent = p.connect()
    back.say(command(9)).hear(RESUMED)
    rest = {n: data for n, data in LATER.items() if n not in first}
    urgent.say(records(rest)).said()
    back.say(part(end=True), b"\0").hear(SHUT)
    check(p, whole() | LATER, description=b"")


def test_a_source_may_come_back_with_nothing_left_to_send(park):
    """PONG 0x42 was said, and lost: all is here but the end."""
    p = returning(park)
    main = begin(p, NEW)
    main.say(DISCARD, package(True), part(records(LATER)))
    main.hear(PONG[3] + PONG[0x42])
    main.close()
    main = come_back(p, range(300))
    main.say(command(9)).hear(RESUMED)
    assert os.path.exists(aside(p))
    main.say(part(end=True), b"\0").hear(SHUT)
    check(p, whole() | LATER, description=b"")


def test_what_is_whole_is_kept_when_its_end_is_lost(park):
    """A QEMU before 10.2 cannot resume once it has said the end."""
    p = returning(park)
    main = begin(p, "pc-i440fx-7.2")
    main.say(DISCARD, ping(2), package(False), ping(4), part(records(LATER)))
    main.hear(PONG[2])
    wait_package(main)
    wait_written(p, LATER[299])
    main.close()
    qemu.wait_until("it waits", lambda: "waiting for" in p.one.said())
    assert os.path.exists(aside(p))
    # It may come back all the same.
    main = come_back(p, range(300))
    main.close()
    qemu.wait_until("it waits", lambda: p.one.said().count("waiting") == 2)
    p.one.process.terminate()
    code, said = p.one.wait()
    assert code == 3 and "the VM is in" in said and "undecided" in said
    os.rename(aside(p), p.one.image)
    assert p.one.cat("ram") == b"".join(
        (whole() | LATER)[n] for n in range(300))


def test_who_waits_for_a_source_can_be_told_to_stop(park):
    p = returning(park)
    main = begin(p, "pc-i440fx-7.2")
    main.say(DISCARD, ping(2), package(False), ping(4)).hear(PONG[2])
    time.sleep(0.05)
    main.close()
    qemu.wait_until("it waits", lambda: "waiting for" in p.one.said())
    p.one.process.terminate()
    code, said = p.one.wait()
    assert code == 3 and "the VM is stopped at the source" in said
    assert not os.path.exists(f"{p.one.image}.part")


def test_before_postcopy_nobody_can_come_back(park):
    p = returning(park)
    main = begin(p, NEW)
    for turn in range(2):
        stranger = p.connect().say(recv_bitmap("ram"))
        assert stranger.ended()
        if turn == 0:       # PONG 0x42 is not said: pages are missing
            main.say(DISCARD, package(True), ping(4)).hear(PONG[4])
    assert "nothing here that it could go on with" in p.one.said()


TOLD_TO_STOP = {
    # what a visitor says; exit code; what is said
    "nobody came": (None, 1, "nobody came"),
    "a stranger came": (b"GET / HTTP", 1, "nobody came"),
    "one came back to another park than it left": (
        recv_bitmap("ram"), 3, "the VM is: split"),
}


@pytest.mark.parametrize("who", TOLD_TO_STOP)
def test_a_park_that_had_no_source_does_not_say_where_its_vm_is(park, who):
    words, code, why = TOLD_TO_STOP[who]
    p = returning(park)
    if words:
        stranger = p.connect().say(words)
        assert stranger.ended()
        qemu.wait_until("it is turned away", lambda: "turned a connection"
                        in p.one.said())
    p.one.process.terminate()
    ended, said = p.one.wait()
    assert ended == code and why in said, said
    assert "at the source" not in said


# ---- where the VM is, at each message ---------------------------------------

# What a source says, piece by piece; what of it is answered.
PRECOPY_TAIL = [
    ("all pages", part(all_pages("ram", 300), zeroes("rom", 4), end=True),
     b""),
    ("half of the devices", tail()[:400], b""),
    ("the last octet", tail()[400:], SHUT),
]
POSTCOPY_TAIL = [
    ("what is missing", DISCARD + ping(2), PONG[2]),
    ("half of the package", package(False)[:900], b""),
    ("the package", package(False)[900:] + ping(4), PONG[4] + PONG[3]),
    ("half of the pages", part(records(dict(list(LATER.items())[:50]))), b""),
    ("the last page", part(records(dict(list(LATER.items())[50:]))), b""),
    ("the end", part(end=True) + b"\0", SHUT),
]
LOADED_TAIL = [
    ("what is missing", DISCARD + ping(2), PONG[2]),
    ("half of the package", package(True)[:900], b""),
    ("the package", package(True)[900:] + ping(4), PONG[4]),
    ("half of the pages", part(records(dict(list(LATER.items())[:50]))), b""),
    ("the last page", part(records(dict(list(LATER.items())[50:]))),
     PONG[3] + PONG[0x42]),
    ("the end", part(end=True) + b"\0", SHUT),
]

SOURCE = 1, None            # it is at the source, which goes on or may
STOPPED = 3, None           # at the source, which is stopped
ASIDE = 3, ".undecided"     # in the image, if it does not run at the source
PARKED = 0, ""

# Where the source hangs up, all answers heard: how park ends, what is there.
PLACES = {
    "precopy": (PRECOPY_TAIL, {
        "all pages": SOURCE, "half of the devices": SOURCE,
        "the last octet": PARKED}),
    "postcopy, before 10.2": (POSTCOPY_TAIL, {
        "what is missing": SOURCE, "half of the package": SOURCE,
        "the package": STOPPED, "half of the pages": STOPPED,
        "the last page": ASIDE, "the end": PARKED}),
    "postcopy": (LOADED_TAIL, {
        "what is missing": SOURCE, "half of the package": SOURCE,
        "the package": SOURCE, "half of the pages": SOURCE,
        "the last page": ASIDE, "the end": PARKED}),
}


def begin_as(p, way):
    if way != "precopy":
        return begin(p, NEW if way == "postcopy" else "pc-i440fx-7.2")
    main = p.connect().say(head(NEW), OPEN_RETURN_PATH, ping(1))
    return main.hear(PONG[1]).say(start(BLOCKS))


def hear_all(main, answers):
    """In any order."""
    while len(main.heard) < len(answers):
        hear_some(main)
    found, main.heard = main.heard, b""
    assert sorted(found[i:i + 8] for i in range(0, len(found), 8)) == \
        sorted(answers[i:i + 8] for i in range(0, len(answers), 8))


def say_up_to(main, pieces, where):
    """The answers to the last of them."""
    for name, said, answers in pieces:
        main.say(said).said()
        if name == where:
            return answers
        hear_all(main, answers)
    raise KeyError(where)


def became(p):
    """(exit code, the end of the image's name, if there is one)"""
    code, _ = p.one.wait()
    return code, next((end for end in ("", ".undecided")
                       if os.path.exists(f"{p.one.image}{end}")), None)


@pytest.mark.parametrize("way, where", [
    (way, where) for way, (_, rows) in PLACES.items() for where in rows])
def test_a_source_that_leaves_at_each_message(peer, way, where):
    pieces, rows = PLACES[way]
    p = peer()
    main = begin_as(p, way)
    hear_all(main, say_up_to(main, pieces, where))
    main.close()
    assert became(p) == rows[where], p.one.said()


@pytest.mark.parametrize("way, where", [
    (way, name) for way, (pieces, _) in PLACES.items()
    for name, _, answers in pieces if answers])
def test_a_source_that_leaves_without_having_heard(peer, way, where):
    """The same, but that SHUT was said to nobody."""
    pieces, rows = PLACES[way]
    p = peer()
    main = begin_as(p, way)
    answers = say_up_to(main, pieces, where)
    while len(main.sock.recv(4096, socket.MSG_PEEK)) < len(answers):
        time.sleep(0.01)
    main.close()
    assert became(p) == (ASIDE if rows[where] == PARKED else rows[where]), \
        p.one.said()
