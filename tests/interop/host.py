# SPDX-License-Identifier: MIT
"""A destination that is none: hears `ferry serve` octet by octet, as a QEMU
would, and does what a QEMU should not.

Written from a description of the protocol, as source.py is."""

import socket
import struct

from source import PAGE

PONG, REQ_PAGES_ID, REQ_PAGES = 2, 3, 4


def message(kind, payload=b""):
    return struct.pack(">HH", kind, len(payload)) + payload


def pong(value):
    return message(PONG, struct.pack(">I", value))


def shut(value=0):
    return message(1, struct.pack(">I", value))


def wants(name, first, pages=1):
    return message(REQ_PAGES_ID, struct.pack(">QI", first * PAGE,
                                             pages * PAGE) +
                   bytes([len(name)]) + name.encode())


def wants_more(first, pages=1):
    return message(REQ_PAGES, struct.pack(">QI", first * PAGE, pages * PAGE))


ZERO, MEM_SIZE, DATA, EOS, CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
COMMANDS = {1: "return path", 2: "ping", 3: "advise", 6: "discard",
            7: "package"}


class Host:
    """Waits at .uri.  `state`: the octets of the devices, which have no length
    that could be read."""

    def __init__(self, folder, state, name="host"):
        self.state = state
        self.uri = f"unix:{folder}/{name}"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/{name}")
        self.listener.listen()
        self.main = self.urgent = None
        self.ram, self.twice = {}, []
        self.enough = None      # pages, where until("enough") ends
        self.mute = False

    def close(self):
        for sock in self.main, self.urgent, self.listener:
            if sock:
                sock.close()

    def accept(self):
        """One connection; its reader."""
        sock, _ = self.listener.accept()
        sock.settimeout(60)
        if not self.main:
            self.main = sock
        else:
            self.urgent = sock
        return Reader(self, sock)

    def say(self, *messages):
        self.main.sendall(b"".join(messages))

    def no_way_back(self):
        """It still reads, and will not be heard."""
        self.mute = True
        self.main.shutdown(socket.SHUT_WR)

    def put(self, name, page, data):
        if (name, page) in self.ram:
            self.twice.append((name, page))
        self.ram[name, page] = data

    def memory(self, name, pages):
        return b"".join(self.ram[name, n] for n in range(pages))


class Ended(Exception):
    """The source says no more."""


class Reader:
    """What one connection carries, piece by piece."""

    def __init__(self, host, sock):
        self.host, self.sock = host, sock
        self.block = None       # of CONTINUE
        self.inside = None      # the section that goes on
        self.left, self.opaque = 0, b""     # of a package, of the devices

    def take(self, n):
        parts = []
        while n:
            try:
                part = self.sock.recv(min(n, 1 << 16))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Ended
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def name(self):
        return self.take(self.number("B")).decode()

    def blocks(self, left):
        while left:
            self.name()
            left -= self.number("Q")

    def record(self):
        """False: that was the last one."""
        word = self.number("Q")
        flags, page = word % PAGE, word // PAGE
        if flags & (ZERO | DATA):
            if not flags & CONTINUE:
                self.block = self.name()
            self.host.put(self.block, page, self.take(PAGE) if flags & DATA
                          else self.take(1) and bytes(PAGE))
        elif flags == MEM_SIZE:
            self.blocks(page * PAGE)
        return flags != EOS

    def section(self, kind):
        self.take(4)
        if kind == 1:
            assert self.name() == "ram"
            self.take(8)
        self.inside = {1: "block list", 2: "pages", 3: "end"}[kind]
        return self.records()

    def records(self):
        while self.record():
            if len(self.host.ram) == self.host.enough:
                return "enough"
        assert self.take(1) == b"\x7e"
        self.take(4)
        ended, self.inside = self.inside, None
        return ended

    def command(self):
        number = self.number("H")
        payload = self.take(self.number("H"))
        if number == 7:
            self.left = struct.unpack(">I", payload)[0]
        return COMMANDS[number]

    def some(self, octets):
        """So many of what has no parts: a package, the devices."""
        self.opaque += self.take(octets)
        self.left -= octets

    def all_of_it(self):
        self.some(self.left)
        found, self.opaque = self.opaque, b""
        if found[:1] != b"\4":
            return "RUN" if found[-5:] == b"\x08\0\5\0\0" else "?"
        assert found == self.host.state
        return "all devices"

    def next(self):
        """Reads one piece; says which."""
        if self.left:
            return self.all_of_it()
        if self.inside:
            return self.records()
        kind = self.take(1)
        if kind == b"Q":
            self.take(8)
            self.take(self.number("I"))
            return "head"
        if kind == b"\4":
            self.opaque, self.left = kind, len(self.host.state) - 1
            return "devices"
        if kind == b"\6":
            self.take(self.number("I"))
            return "description"
        if kind == b"\0":
            return "EOF"
        return self.command() if kind == b"\x08" else self.section(kind[0])

    def until(self, *what):
        """Up to the end of such a piece, PONGs said."""
        while True:
            found = self.next()
            if found == "ping" and not self.host.mute:
                self.host.say(pong(1))
            if found in what:
                return found

    def rest(self):
        """All that comes: the names of the pieces."""
        found = []
        try:
            while True:
                found.append(self.next())
        except Ended:
            return found
