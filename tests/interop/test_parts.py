# SPDX-License-Identifier: MIT
"""Devices whose state comes in parts, as a QEMU's VFIO has it from 10.0 on: on
main in sections that go on, and in packets on multifd channels.  There is no
such hardware here: a made-up source says it to `ferry park`, and a made-up
target hears from `ferry serve` the very same."""

import os
import random
import resource
import socket
import struct
import subprocess
import threading

import pytest

from host import pong, shut
from parked import BLOCKS, NEW, all_pages, check, fill, whole, zeroes
from source import (ADVISE, DEVICE_STATE, FLUSH, OPEN_RETURN_PATH, PONG, SHUT,
                    STATE, SWITCHOVER_START, footer, head, init, part,
                    ping, start, str8, sync, tail, word)

pytestmark = pytest.mark.sanitize

END, CONFIG, SETUP, DATA, INIT_SENT = (0xffffffffef100000 + n
                                       for n in range(1, 6))
MAX = 64 << 20


def words(*items):
    """Of a section's body; octets are DATA."""
    return b"".join(struct.pack(">QQ", DATA, len(item)) + item
                    if isinstance(item, bytes) else struct.pack(">Q", item)
                    for item in (*items, END))


def begin(number, name, body=words(SETUP), instance=0):
    return struct.pack(">BI", 1, number) + str8(name) + \
        struct.pack(">II", instance, 1) + body + footer(number)


def more(number, *items):
    return struct.pack(">BI", 2, number) + words(*items) + footer(number)


def end(number, *items):
    return struct.pack(">BI", 3, number) + words(*items) + footer(number)


def bulk(name, index, data=b"", last=False, size=None, flags=DEVICE_STATE,
         version=0, instance=0):
    payload = struct.pack(">III", version, index, last) + data
    return struct.pack(">III256sII", 0x11223344, 1, flags, name.encode(),
                       instance, len(payload) if size is None else size) + \
        payload


A, B, C = "0000:00:05.0/vfio", "0000:00:06.0/vfio", "0000:00:07.0/vfio"
STARTS = begin(20, A), begin(21, B), begin(22, C, instance=3)
ENDS = end(20), end(21), end(22)


class Source:
    """Says a VM to park; the packets of each channel come as they are."""

    def __init__(self, peer, packets, before=STARTS, after=ENDS, switch=True,
                 advise=b"", the_tail=tail()):
        self.p = peer(f"--multifd={len(packets)}")
        self.lanes = [self.p.connect().say(init(n), sync(), sync(), *data)
                      for n, data in enumerate(packets)]
        self.main = self.p.connect().say(
            head(NEW), OPEN_RETURN_PATH, ping(1), advise,
            start(BLOCKS, word(FLUSH)), *before,
            SWITCHOVER_START * switch,
            part(all_pages("ram", 300), zeroes("rom", 4), word(FLUSH),
                 end=True), *after, the_tail)

    def done(self):
        self.main.hear(PONG[1] + SHUT)
        check(self.p, whole())
        return self.p.one.image

    def refused(self, says, hang_up=False):
        if hang_up:
            for lane in self.lanes:
                lane.said().sock.shutdown(socket.SHUT_WR)
        code, said = self.p.one.wait()
        assert code == 1 and says in said, said
        assert "the VM is at the source" in said
        assert not os.path.exists(self.p.one.image)
        assert not os.path.exists(f"{self.p.one.image}.part")


class Target:
    """Hears a VM from serve: octets of main, packets of each channel."""

    def __init__(self, folder, channels):
        self.uri = f"unix:{folder}/target"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/target")
        self.listener.listen(channels + 1)
        self.channels = channels
        self.heard = b""
        self.packets = {}
        self.pages = {}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def read_lane(self, lane):
        stream = lane.makefile("rb")
        opening = stream.read(64)
        if len(opening) < 64:
            return
        number = opening[24]
        assert opening == init(number)
        found = self.packets[number] = []
        while first := stream.read(12):
            flags = struct.unpack(">III", first)[2]
            if flags == DEVICE_STATE:
                rest = stream.read(264)
                size = struct.unpack(">I", rest[260:])[0]
                found.append(first + rest + stream.read(size))
                continue
            rest = stream.read(1332)
            pages, size = struct.unpack(">II", rest[4:12])
            data = stream.read(size if pages else 0)
            for n in range(pages):
                at = struct.unpack_from(">Q", rest, 308 + 8 * n)[0] >> 12
                self.pages[rest[52:55], at] = data[n << 12:(n + 1) << 12]

    def run(self):
        main, _ = self.listener.accept()
        lanes = [self.listener.accept()[0] for _ in range(self.channels)]
        readers = [threading.Thread(target=self.read_lane, args=[lane],
                                    daemon=True) for lane in lanes]
        for reader in readers:
            reader.start()
        asked = 0
        while octets := main.recv(1 << 20):
            self.heard += octets
            if not asked and ping(1) in self.heard:
                asked = main.send(pong(1))
            if self.heard.endswith(b"\0\6\0\0\0\0"):
                main.sendall(shut())
        for sock in main, *lanes:
            sock.close()
        for reader in readers:
            reader.join(20)
        self.listener.close()


def serve(image, uri, *words_):
    done = subprocess.run([os.environ["FERRY"], "serve", "--quiet", "--precopy",
                           str(image), uri, *words_], check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=150)
    return done.returncode, done.stderr


def check_served(image, folder, sent, channels=None, starts=STARTS, ends=ENDS,
                 switch=True):
    """serve says what was said to park."""
    target = Target(folder, channels or len(sent))
    code, said = serve(image, target.uri, f"--multifd={target.channels}")
    target.thread.join(20)
    assert code == 0, said
    main = target.heard
    assert b"".join(starts) + ping(1) in main
    assert main.endswith(b"".join(ends) + tail(STATE, b""))
    assert (SWITCHOVER_START + struct.pack(">BI", 3, 1) in main) == switch
    assert {n: data for (name, n), data in target.pages.items()
            if name == b"ram"} == {n: fill(n) for n in range(300)}
    heard = [target.packets[n] for n in range(target.channels)]
    if target.channels == len(sent):
        assert heard == [list(data) for data in sent]
    else:
        for n, data in enumerate(sent):
            mine = [one for one in heard[n % target.channels] if one in data]
            assert mine == list(data)
        assert sum(map(len, heard)) == sum(map(len, sent))


def dealt(devices, channels, seed=1):
    """{(name, instance): pieces}, each piece on any channel, in any order."""
    dice = random.Random(seed)
    every = [bulk(name, n, data, n == len(pieces) - 1, instance=instance)
             for (name, instance), pieces in devices.items()
             for n, data in enumerate(pieces)]
    dice.shuffle(every)
    lanes = [[] for _ in range(channels)]
    for one in every:
        lanes[dice.randrange(channels)].append(one)
    return lanes


def pieces(n, seed):
    dice = random.Random(seed)
    return [dice.randbytes(dice.choice([0, 1, 100, 4096, 300000, 1 << 20]))
            for _ in range(n)]


DEVICES = {(A, 0): pieces(9, 1), (B, 0): pieces(1, 2), (C, 3): pieces(14, 3)}


@pytest.mark.parametrize("channels", [1, 4])
def test_several_devices_over_several_channels(peer, folder, channels):
    sent = dealt(DEVICES, channels, channels)
    image = Source(peer, sent).done()
    check_served(image, folder, sent)


def test_fewer_channels_carry_all_of_it(peer, folder):
    sent = dealt(DEVICES, 4)
    check_served(Source(peer, sent).done(), folder, sent, channels=2)


def test_what_came_while_the_vm_ran_comes_first(peer, folder):
    """And is not mixed up with what came later."""
    sent = dealt({(A, 0): pieces(3, 7)}, 2)
    starts = [begin(20, A), more(20, b"first" * 999, INIT_SENT),
              more(20), more(20, os.urandom(3 << 20), b"", b"third")]
    ends = [end(20)]
    image = Source(peer, sent, starts, ends).done()
    check_served(image, folder, sent, None, starts, ends)


def test_a_device_without_packets_has_all_of_it_on_main(peer, folder):
    """Before 10.0, or where its transfer by multifd is off: its configuration
    is a section in the tail."""
    starts, ends = [begin(20, A), more(20, b"x" * 5000)], [
        end(20, os.urandom(100000), b"the rest")]
    config = struct.pack(">BI", 4, 20) + str8(A) + struct.pack(
        ">IIQ", 0, 1, CONFIG) + b"config" + struct.pack(">Q", END) + \
        footer(20)
    source = Source(peer, [[]], starts, ends, False,
                    the_tail=tail(config + STATE, b""))
    source.main.hear(PONG[1] + SHUT)
    check(source.p, whole(), state=config + STATE, description=b"")
    target = Target(folder, 0)
    code, said = serve(source.p.one.image, target.uri)
    target.thread.join(20)
    assert code == 0, said
    assert b"".join(starts) + ping(1) in target.heard
    assert target.heard.endswith(b"".join(ends) + tail(config + STATE, b""))
    assert SWITCHOVER_START not in target.heard


def test_a_packet_of_the_greatest_size(peer, folder):
    sent = [[bulk(A, 0, bytes(MAX - 12 - 8) + b"the end.", True)]]
    image = Source(peer, sent, [begin(20, A)], [end(20)]).done()
    check_served(image, folder, sent, None, [begin(20, A)], [end(20)])


def test_packets_may_come_behind_the_end_of_main(peer, folder):
    sent = dealt({(A, 0): pieces(6, 5)}, 2)
    source = Source(peer, [[], []], [begin(20, A)], [end(20)])
    source.main.hear(PONG[1]).silent(0.3)
    for lane, data in zip(source.lanes, sent):
        lane.say(*data)
    source.main.hear(SHUT)
    check(source.p, whole())
    check_served(source.p.one.image, folder, sent, None, [begin(20, A)],
                 [end(20)])


# ---- what cannot be ---------------------------------------------------------

ONE = [begin(20, A)], [end(20)]
LAST = bulk(A, 0, b"x", True)

PACKETS = {
    "over the bound": ([bulk(A, 0, b"x", size=MAX + 1)], "device packet"),
    "of no device": ([bulk("0000:09/vfio", 0)], "0000:09/vfio, which has no "
                     "section"),
    "of another instance": ([bulk(A, 0, instance=1)], "which has no section"),
    "without a name": ([bulk("", 0)], "device packet"),
    "twice": ([bulk(A, 1), bulk(A, 1)], "packet 1 came twice"),
    "behind the last": ([bulk(A, 0, last=True), bulk(A, 1)],
                        "packet 1 is behind the last"),
    "two last ones": ([bulk(A, 3, last=True), bulk(A, 1, last=True)],
                      "packet 1 is behind the last"),
    "of an index that cannot be": ([bulk(A, 1 << 20)], "is not supported"),
    "of another version": ([bulk(A, 0, version=1)], "is not supported"),
    "of something else": ([bulk(A, 0)[:276 - 4] + b"\0\0\0\5hello"],
                          "is not supported"),
    "with SYNC": ([bulk(A, 0, flags=DEVICE_STATE | 1)], "packet: flags 0x41"),
    "compressed": ([bulk(A, 0, flags=DEVICE_STATE | 2)],
                   "packet: flags 0x42"),
    "with flags of the future": ([bulk(A, 0, flags=0x80)],
                                 "packet: flags 0x80"),
}


@pytest.mark.parametrize("what", PACKETS)
def test_packets_that_cannot_be_are_refused(peer, what):
    data, says = PACKETS[what]
    Source(peer, [data], *ONE).refused(says, "device" in what)


@pytest.mark.parametrize("data", [
    [], [bulk(A, 0), bulk(A, 2, last=True)], [bulk(A, 0), bulk(A, 1)],
    [LAST[:-1]], [LAST[:100]], [bulk(A, 0, bytes(3 << 20), True)[:2 << 20]],
], ids=["none", "a gap", "no last", "a cut", "a cut head", "a long cut"])
def test_what_has_not_come_whole_is_no_vm(peer, data):
    Source(peer, [data], *ONE).refused("not all of the state", True)


def test_a_full_disk_leaves_the_vm_at_the_source(peer):
    """It can still go on there."""
    source = Source(peer, [[]], *ONE, the_tail=b"")
    source.main.hear(PONG[1])
    resource.prlimit(source.p.one.process.pid, resource.RLIMIT_FSIZE,
                     (2 << 20,) * 2)
    source.lanes[0].say(bulk(A, 0, bytes(3 << 20), True))
    source.main.say(tail())
    source.refused("write device state: File too large")


SECTIONS = {
    "without a length": ([begin(20, A, words(CONFIG))], [end(20)],
                         "begins with 0xffffffffef100002"),
    "of another kind": ([begin(20, A, b"\0" * 16)], [],
                        f"section {A} version 1 is not known here"),
    "of a later kind": ([begin(20, A, words(0xffffffffef100009))], [],
                        "0xffffffffef100009 is not known here"),
    "that goes on as something else": ([begin(20, A), more(20)[:5] +
                                        bytes(16)], [], "section 20"),
    "with RAM's number": ([begin(1, A)], [], "cannot be kept"),
    "twice": ([begin(20, A), begin(20, B)], [], "cannot be kept"),
    "twice by name": ([begin(20, A), begin(21, A)], [], "cannot be kept"),
    "that does not end": ([begin(20, A)], [], "began and did not end"),
    "that ends twice": ([begin(20, A), end(20)], [end(20)],
                        "it ended before"),
    "that never began": ([begin(20, A)], [end(21)], "never began"),
    "with another footer": ([begin(20, A)[:-1] + b"\x15"], [], "footer"),
}


@pytest.mark.parametrize("what", SECTIONS)
def test_sections_that_cannot_be_are_refused(peer, what):
    before, after, says = SECTIONS[what]
    Source(peer, [[LAST]], before, after).refused(says)


def test_it_does_not_go_with_postcopy(peer):
    Source(peer, [[]], *ONE, advise=ADVISE).refused("does not go with postcopy")


# ---- serve ------------------------------------------------------------------


@pytest.fixture
def image(peer):
    return Source(peer, [[LAST], []], *ONE).done()


@pytest.mark.parametrize("words_, says", [
    ([], "say with how many (serve --multifd N)"),
    (["--multifd=2", "--set", "postcopy-ram=on"], "postcopy"),
])
def test_what_it_takes_to_say_it_is_said(image, folder, words_, says):
    code, said = serve(image, f"unix:{folder}/nobody", *words_)
    assert code == 1 and says in said and said.count("\n") == 1


def test_dump_lists_it(image):
    said = subprocess.run([os.environ["FERRY"], "dump", "--verify", image],
                          check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said.count("KEPT ") == 4
    assert "packet" in said and A in said


def test_damage_is_found_before_the_vm_runs(image, folder):
    data = image.read_bytes()
    at = data.index(LAST) + len(LAST) - 1
    image.write_bytes(data[:at] + b"y" + data[at + 1:])
    target = Target(folder, 2)
    code, said = serve(image, target.uri, "--multifd=2")
    target.thread.join(20)
    assert code == 1 and "device state in parts, record" in said, said
    assert not target.heard.endswith(tail(STATE, b""))
    code = subprocess.run([os.environ["FERRY"], "dump", "--verify", image],
                          check=False, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode
    assert code == 1
