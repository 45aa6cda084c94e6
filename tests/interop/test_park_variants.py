# SPDX-License-Identifier: MIT
"""The variants of QEMU's protocol that came behind the QEMU at hand, said to
`ferry park` octet by octet: what is in the image is what was said last."""

import os
import resource
import struct
import time

import pytest

import qemu
from parked import (BLOCKS, DISCARD, LATER, NEW, PRECOPIED, all_pages, aside,
                    begin, check, fill, hear_some, package, records, returning,
                    whole, zeroes)
from source import (ADVISE, DESCRIPTION, FLUSH, OPEN_RETURN_PATH, PAGE, PONG,
                    RUN, SHUT, STATE, SWITCHOVER_ACK, SWITCHOVER_START, SYNC,
                    describe, device, discard, head, init, packaged, packet,
                    page, part, ping, start, sync, tail, word, zero)

pytestmark = pytest.mark.sanitize

# ---- precopy ----------------------------------------------------------------


@pytest.mark.parametrize("machine, asks, acks", [
    ("pc-i440fx-9.2", True, True),
    ("pc-q35-11.0", True, True),
    ("pc-q35-11.1", True, False),
    ("pc-q35-12.0", True, False),
    ("pc-q35-9.2", False, False),
])
def test_precopy_with_what_newer_ones_say(peer, machine, asks, acks):
    p = peer(*["--switchover-ack"] * asks)
    main = p.connect().say(head(machine), OPEN_RETURN_PATH, ping(1))
    main.hear(SWITCHOVER_ACK * acks + PONG[1])
    main.say(start(BLOCKS), part(all_pages("ram", 300), zeroes("rom", 4)),
             part(), SWITCHOVER_START, part(page(7, fill(7, 2), "ram"),
                                            zero(8), zero(9),
                                            page(9, fill(9, 3)), end=True),
             tail())
    main.hear(SHUT)
    check(p, whole() | {7: fill(7, 2), 8: bytes(PAGE), 9: fill(9, 3)})


# Where the tail is cut: what has come so far must not pass for all of it.
TRAP = b"\x7e\0\0\0\3\0\6\0\0\0\2{}"
ANOTHER = b"\x7e\0\0\0\4\0\6\0\0\0\0"
TRAPS = device(3, "trap", TRAP) + device(4, "another", ANOTHER) + STATE
NAMED = describe(trap=len(TRAP), another=len(ANOTHER), timer=24,
                 **{"0000:00:02.0/e1000": 768, "globalstate": 104})


@pytest.mark.parametrize("at", [
    1, 20, TRAPS.index(b"{}") + 1, TRAPS.index(b"{}") + 2,
    TRAPS.index(b"\0\6\0\0\0\0") + 6, len(TRAPS), len(TRAPS) + 1,
    len(TRAPS) + 5, len(TRAPS) + 6, len(TRAPS) + 7, -1])
@pytest.mark.parametrize("described", [True, False])
def test_device_state_ends_where_it_ends(peer, at, described):
    p = peer()
    text = NAMED if described else DESCRIPTION
    data = tail(TRAPS, text)
    main = p.connect().say(head("pc-i440fx-7.2"), OPEN_RETURN_PATH,
                           start(BLOCKS), part(zeroes("ram", 300),
                                               zeroes("rom", 4), end=True),
                           data[:at]).said()
    time.sleep(0.01)
    main.say(data[at:])
    main.hear(SHUT)
    check(p, {}, state=TRAPS, description=text)


def test_a_description_may_be_empty(peer):
    p = peer()
    p.connect().say(head(NEW), OPEN_RETURN_PATH, start(BLOCKS), part(
        zeroes("ram", 300), zeroes("rom", 4), end=True),
        tail(STATE, b"")).hear(SHUT)
    check(p, {}, description=b"")


# ---- multifd ----------------------------------------------------------------


def packets(ram, flags=0):
    """In packets of up to 128 pages."""
    items = list(ram.items())
    return b"".join(packet(flags, dict(items[i:i + 128]))
                    for i in range(0, len(items), 128))


def test_multifd_with_modern_sync_and_zero_pages_in_packets(peer):
    p = peer("--multifd=2")
    # All of these come before the first octet of main, the last one first.
    lane = {1: p.connect().say(init(1), sync(),
                               packet(0, {5: fill(5)}, [6, 7]))}
    lane[0] = p.connect().say(init(0), sync(), packets(
        {n: data for n, data in whole().items() if n not in (5, 6, 7)}))
    time.sleep(0.05)
    main = p.connect().say(head(NEW), OPEN_RETURN_PATH, ping(1),
                           start(BLOCKS, word(FLUSH)))
    main.hear(PONG[1])
    # Page 5 once more, by the other channel: the mark decides.  EOS is none.
    lane[0].say(packet(0, {}, [0, 1], name="rom"), sync(),
                packet(0, {5: fill(5, 2)}, [12]), sync())
    main.say(part(), part())
    time.sleep(0.05)
    main.say(part(word(FLUSH)))
    lane[1].say(packet(0, {}, [2, 3], name="rom"), sync(),
                packet(0, {6: fill(6, 2)}), sync())
    # Two scans in one section, and page 12 comes back from zero.
    main.say(SWITCHOVER_START, part(word(FLUSH), word(FLUSH), end=True))
    lane[1].say(packet(0, {12: fill(12, 3)}), sync())
    lane[0].say(sync())
    main.say(tail())
    main.hear(SHUT)
    check(p, whole() | {5: fill(5, 2), 6: fill(6, 2), 7: bytes(PAGE),
                        12: fill(12, 3)})


def test_multifd_with_legacy_sync_and_pages_in_sync_packets(peer):
    p = peer("--multifd=2")
    main = p.connect().say(head("pc-i440fx-7.2"), OPEN_RETURN_PATH,
                           start(BLOCKS))
    # A SYNC without pages has a stale size and name, and no payload.
    lane = [p.connect().say(init(n), packet(SYNC, name="gone", size=4096))
            for n in range(2)]
    most = dict(list(whole().items())[:128])
    rest = {n: data for n, data in whole().items() if n not in most}
    lane[0].say(packet(SYNC, most), packet())
    lane[1].say(packets(rest), packet(SYNC))
    main.say(part(zeroes("rom", 4), zero(3, "ram")))
    # Page 3 went as zero before the mark, and as a page behind it.
    lane[1].say(packet(SYNC, {3: fill(3, 4)}), packet())
    lane[0].say(packet(SYNC, {}))
    main.say(part(zero(4, "ram"), end=True), tail())
    main.hear(SHUT)
    ram = whole() | {3: fill(3, 4), 4: bytes(PAGE)}
    check(p, ram)


def test_multifd_with_modern_sync_and_zero_pages_on_main(peer):
    p = peer("--multifd=1")
    main = p.connect().say(head("pc-q35-8.2"), OPEN_RETURN_PATH,
                           start(BLOCKS, word(FLUSH)))
    lane = p.connect().say(init(0), sync(), packets(whole()), sync())
    main.say(part(zeroes("rom", 4), word(FLUSH)))
    main.say(part(zero(10, "ram"), word(FLUSH), end=True), tail())
    lane.say(packet(0, {11: fill(11, 2)}), sync())
    main.hear(SHUT)
    check(p, whole() | {10: bytes(PAGE), 11: fill(11, 2)})


def multifd_streams():
    """Main and two channels, with their marks, in the order in which they
    could be said."""
    yield 1, init(0) + sync()
    yield 2, init(1) + sync()
    yield 0, head(NEW) + OPEN_RETURN_PATH + start(BLOCKS, word(FLUSH))
    yield 1, packets({n: fill(n) for n in range(150)}) + sync()
    yield 2, packets({n: fill(n) for n in range(150, 300)}) + \
        packet(0, {}, [0, 1, 2, 3], name="rom") + sync()
    yield 0, part(word(FLUSH)) + SWITCHOVER_START
    yield 1, packet(0, {9: fill(9, 2)}) + sync()
    yield 2, sync()
    yield 0, part(word(FLUSH), end=True) + tail()


def say_so_much(p, octets):
    """The first of these octets, on new connections."""
    lanes = [p.connect() for _ in range(3)]
    for lane, data in multifd_streams():
        lanes[lane].say(data[:octets])
        octets -= min(octets, len(data))
    return [lane.said() for lane in lanes]


def test_channels_that_are_cut_anywhere_leave_nothing(park):
    p = returning(park, "--multifd=2")
    whole = sum(len(data) for _, data in multifd_streams())
    cuts = [*range(3, whole, whole // 40), *range(whole - 400, whole, 37),
            whole - 1]
    for at in cuts:
        before = p.one.said()
        lanes = say_so_much(p, at)
        for lane in lanes:
            lane.close()
        qemu.wait_until("it was noticed", lambda: p.one.said() != before)
        p.one.wait_listening()
        assert p.one.process.poll() is None, p.one.said()
        assert not os.path.exists(p.one.image)
        assert not os.path.exists(aside(p))
        time.sleep(0.02)        # the other connections are turned away, too
    say_so_much(p, whole)[0].hear(SHUT)
    check(p, whole_but(9))


def whole_but(number):
    return whole() | {number: fill(number, 2)}


# ---- postcopy ---------------------------------------------------------------


def test_all_is_on_the_disk_before_the_source_lets_go(peer):
    """PONG 0x42 is what a QEMU from 10.2 on waits for."""
    p = peer()
    main = begin(p, NEW)
    main.say(part(), SWITCHOVER_START, DISCARD, ping(2), package(True),
             ping(4))
    main.hear(PONG[2])
    last = LATER.copy()
    data = last.pop(299)
    main.say(part(records(last)))
    # 3 and 4 may come in any order, and 0x42 not yet.
    main.hear(PONG[4])
    main.silent(0.3)
    assert not os.path.exists(aside(p))
    main.say(part(page(299, data, "ram")))
    main.hear(PONG[3] + PONG[0x42])
    assert os.path.exists(aside(p)) and not os.path.exists(p.one.image)
    main.say(part(end=True), b"\0").hear(SHUT)
    assert not os.path.exists(p.one.image)
    check(p, whole() | LATER, description=b"")


@pytest.mark.parametrize("all_came", [False, True])
def test_a_break_before_the_end_is_told_by_what_was_said(peer, all_came):
    p = peer()
    main = begin(p, NEW)
    some = dict(list(LATER.items())[:None if all_came else -1])
    main.say(DISCARD, ping(2), package(True), ping(4), part(records(some)))
    main.hear(PONG[2] + PONG[4])
    if all_came:
        main.hear(PONG[3] + PONG[0x42])
    main.close()
    code, said = p.one.wait()
    assert not os.path.exists(p.one.image)
    assert os.path.exists(aside(p)) == all_came, said
    assert code == (3 if all_came else 1), said


def test_multifd_ends_where_postcopy_begins(peer):
    p = peer("--multifd=2")
    lane = [p.connect().say(init(n), sync()) for n in range(2)]
    main = p.connect().say(head("pc-q35-11.1"), OPEN_RETURN_PATH, ping(1),
                           ADVISE)
    main.hear(PONG[1]).say(start(BLOCKS, word(FLUSH)))
    lane[0].say(packets({n: fill(n) for n in range(100)}), sync(), sync())
    lane[1].say(packets({n: fill(n) for n in range(100, 200)}), sync(),
                packet(0, {}, [0, 1, 2, 3], name="rom"), sync())
    # The last one before postcopy has no pages of its own.
    main.say(part(word(FLUSH)), part(word(FLUSH)), SWITCHOVER_START, DISCARD,
             ping(2), package(True), ping(4), part(records(LATER)))
    main.hear(PONG[2] + PONG[4] + PONG[3] + PONG[0x42])
    main.say(part(end=True), b"\0").hear(SHUT)
    check(p, whole() | LATER, description=b"")


@pytest.mark.parametrize("loaded", [False, True])
def test_preempt_comes_late_and_says_no_end(peer, loaded):
    """As from 8.0 on: behind PONG 1, before the package."""
    p = peer("--preempt")
    main = begin(p, NEW if loaded else "pc-q35-8.0")
    urgent = p.connect()
    main.say(part(), DISCARD, ping(2), package(loaded), ping(4))
    main.hear(PONG[2])
    # Both say CONTINUE, each of its own block.
    low = {n: data for n, data in LATER.items() if n < 250}
    first, *others = [(n, data) for n, data in LATER.items() if n >= 250]
    urgent.say(page(*first, "ram"), *(page(*other) for other in others))
    main.say(part(records(low)))
    qemu.wait_until("its answers", lambda: len(main.heard) >= (
        24 if loaded else 16) or hear_some(main))
    main.say(part(end=True), b"\0")
    main.heard = main.heard[24 if loaded else 16:]
    main.hear(SHUT)
    check(p, whole() | LATER, description=b"")


def test_preempt_comes_early_and_says_its_end(peer):
    """As with machine types up to 7.2."""
    p = peer("--preempt")
    main = p.connect().say(head("pc-i440fx-7.2"))
    time.sleep(0.05)
    urgent = p.connect()
    main.say(OPEN_RETURN_PATH, ping(1), ADVISE).hear(PONG[1])
    main.say(start(BLOCKS), PRECOPIED, DISCARD, ping(2), package(False),
             ping(4)).hear(PONG[2])
    urgent.say(records(LATER), word(0x10))
    main.say(part(end=True), b"\0")
    qemu.wait_until("its answers", lambda: len(main.heard) >= 24 or
                    hear_some(main))
    assert main.heard.endswith(SHUT)
    check(p, whole() | LATER, description=b"")


def test_zeroes_of_postcopy_are_holes(peer):
    p = peer()
    main = begin(p, NEW)
    main.say(DISCARD, package(True), part(
        *(zero(n, "ram") for n in LATER)))
    main.hear(PONG[3] + PONG[0x42]).say(part(end=True), b"\0").hear(SHUT)
    disk = os.stat(aside(p)).st_blocks * 512
    check(p, {n: data for n, data in whole().items() if n not in LATER},
          description=b"")
    assert disk < 250 * PAGE


def test_blocks_of_huge_pages_state_their_size(peer):
    p = peer()
    advise = struct.pack(">BHHQQ", 8, 3, 16, 4096 | 2 << 20, 4096)
    blocks = {"huge": 1024, "ram": 300, "rom": 4}
    main = p.connect().say(head("pc-q35-8.1"), OPEN_RETURN_PATH, advise,
                           start(blocks, sizes={"huge": 2 << 20}),
                           part(zeroes("rom", 4), all_pages("ram", 300),
                                zeroes("huge", 1024)),
                           discard("huge", (512, 512)), package(False),
                           part(page(512, fill(512), "huge"),
                                *(page(n, fill(n)) for n in range(513, 1024)),
                                end=True), b"\0")
    main.hear(PONG[3] + SHUT)
    check(p, whole(), description=b"")
    found = p.one.cat("huge")
    assert found == bytes(512 * PAGE) + b"".join(
        fill(n) for n in range(512, 1024))
    assert b"block huge 4194304 2097152" in p.one.cat()


def test_a_file_that_may_grow_no_more_is_a_full_disk(park):
    p = returning(park, "--once")
    resource.prlimit(p.one.process.pid, resource.RLIMIT_FSIZE, (600_000,) * 2)
    p.connect().say(H, Z, part(all_pages("ram", 300))).said()
    code, said = p.one.wait()
    assert code == 1 and "the VM is at the source" in said, said
    assert not os.path.exists(f"{p.one.image}.part")


# ---- what cannot be ---------------------------------------------------------

H = head(NEW) + OPEN_RETURN_PATH
Z = start(BLOCKS)
ALL = part(zeroes("ram", 300), zeroes("rom", 4), end=True)

WRONG = {
    "a page of no block": (H + Z + part(zero(0, "video")),
                           "page of block 'video', which there is not"),
    "a page past the end": (H + Z + part(zero(300, "ram")), "past"),
    "CONTINUE of nothing": (H + Z + part(zero(0)), "page of block ''"),
    "a block twice": (H + start({"ram": 300}, struct.pack(
        ">Q", 300 * PAGE | 4) + b"\3ram" + struct.pack(">Q", 300 * PAGE)),
        "the block list came twice"),
    "a block of no size": (H + start({"ram": 0, "rom": 4}), "MEM_SIZE"),
    "an odd block": (H + struct.pack(">BI", 1, 2) + b"\3ram" + struct.pack(
        ">IIQ", 0, 4, 4096 | 4) + b"\1r" + struct.pack(">Q", 100),
        "MEM_SIZE: block 0"),
    "another RAM section": (H + struct.pack(">BI", 1, 2) + b"\3ram" +
                            struct.pack(">II", 0, 5) + bytes(8),
                            "section ram version 5 is not known here"),
    "a device that goes on": (H + struct.pack(">BI", 1, 8) +
                              b"\x0c0000:05/vfio" + struct.pack(">IIQ", 0, 1, 7),
                              "section 0000:05/vfio version 1"),
    "pages that never came": (H + Z + part(end=True) + tail(),
                              "304 pages were never sent"),
    "no device state": (H + Z + ALL + b"\0\6\0\0\0\2{}", "device state"),
    "half of it": (H + Z + ALL + tail()[:-1], "in the midst of device state"),
    "a command of the future": (H + struct.pack(">BHH", 8, 12, 0),
                                "command 0x000c is unknown"),
    "a command of another length": (H + struct.pack(">BHHI", 8, 4, 4, 0),
                                    "POSTCOPY_LISTEN"),
    "PING before the way back": (head(NEW) + ping(1) + Z, ""),
    "discard before ADVISE": (H + Z + discard("ram", (0, 1)),
                              "RAM_DISCARD without POSTCOPY_ADVISE"),
    "discard past the end": (H + ADVISE + Z + discard("ram", (299, 2)), ""),
    "postcopy without ADVISE": (H + Z + package(True),
                                "POSTCOPY_LISTEN without POSTCOPY_ADVISE"),
    "a package of what is none": (H + ADVISE + Z + packaged(b"what" * 9), ""),
    "RUN outside": (H + ADVISE + Z + RUN, "POSTCOPY_RUN"),
    "a mark in postcopy": (H + ADVISE + Z + DISCARD + package(True) +
                           part(word(FLUSH)), ""),
    "a wrong footer": (H + Z[:-1] + b"\3" + part(), "footer"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_is_refused_in_a_sentence(peer, what):
    stream, says = WRONG[what]
    p = peer()
    connection = p.connect().say(stream).said()
    connection.sock.shutdown(1)
    code, said = p.one.wait()
    assert code == 1 and says in said and "the VM is at the source" in said, \
        said
    assert not os.path.exists(p.one.image)
    assert not os.path.exists(f"{p.one.image}.part")


LANES = {
    "a block that there is not": (packet(0, {}, [1], name="video"),
                                  "block video"),
    "a page past the end": (packet(0, {}, [300]), ""),
    "more pages than a packet has": (packet(0, {}, [])[:16] + struct.pack(
        ">I", 129) + packet(0, {}, [])[20:], ""),
    "a method that is not known": (packet(0x20, {1: fill(1)}), ""),
    "another version": (b"\x11\x22\x33\x44\0\0\0\2" + packet()[8:], ""),
}


@pytest.mark.parametrize("what", LANES)
def test_packets_that_cannot_be_are_refused(peer, what):
    data, says = LANES[what]
    p = peer("--multifd=1")
    p.connect().say(H, start(BLOCKS, word(FLUSH)), part())
    p.connect().say(init(0), sync(), data)
    code, said = p.one.wait()
    assert code == 1 and "multifd 0" in said or says in said, said
    assert not os.path.exists(p.one.image)


def test_who_stalls_does_not_keep_the_others_out(peer):
    """At the door; behind it a QEMU may be silent for as long as it likes."""
    p = peer()
    for opening in b"", b"Q", b"QEVM", head(NEW)[:-1]:
        p.connect().say(opening)
    time.sleep(0.05)
    p.connect().say(H, Z, ALL, tail()).hear(SHUT)
    check(p, {})


def test_who_stalls_inside_can_be_told_to_leave(peer):
    p = peer()
    p.connect().say(H, Z, part(page(1, fill(1), "ram"))[:-2000])
    qemu.wait_until("the part", lambda: os.path.exists(f"{p.one.image}.part"))
    time.sleep(0.1)
    p.one.process.terminate()
    code, said = p.one.wait()
    assert code == 1 and "the VM is at the source" in said
    assert not os.path.exists(f"{p.one.image}.part")
