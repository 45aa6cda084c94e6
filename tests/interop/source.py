# SPDX-License-Identifier: MIT
"""What a QEMU's source says, octet by octet, without a QEMU.

For the variants of the protocol that the QEMU at hand does not speak.  Written
from a description of the protocol, beside our own encoders and not with them.
"""

import json
import socket
import struct
import threading

PAGE = 4096
EOS, FLUSH = 0x10, 0x200
SYNC, DEVICE_STATE = 0x01, 0x40

PONG = {n: struct.pack(">HHI", 2, 4, n) for n in (1, 2, 3, 4, 0x42)}
SHUT = struct.pack(">HHI", 1, 4, 0)
SWITCHOVER_ACK = b"\0\7\0\0"


def str8(text):
    return bytes([len(text)]) + text.encode()


def head(machine):
    return b"QEVM" + struct.pack(">IBI", 3, 7, len(machine)) + \
        machine.encode()


def command(number, payload=b""):
    return struct.pack(">BHH", 8, number, len(payload)) + payload


OPEN_RETURN_PATH = command(1)
ADVISE = command(3, struct.pack(">QQ", 4096, 4096))
LISTEN, RUN = command(4), command(5)
SWITCHOVER_START = command(11)


def ping(value):
    return command(2, struct.pack(">I", value))


def discard(name, *ranges):
    return command(6, b"\0" + str8(name) + b"\0" + b"".join(
        struct.pack(">QQ", PAGE * first, PAGE * n) for first, n in ranges))


def packaged(data):
    return command(7, struct.pack(">I", len(data))) + data


# ---- sections ---------------------------------------------------------------

RAM = 2


def word(flags, page=0):
    return struct.pack(">Q", page * PAGE | flags)


def footer(number):
    return struct.pack(">BI", 0x7e, number)


def start(blocks, *records, sizes=()):
    """sizes: {name: page size} of those that state one."""
    sizes = dict(sizes)
    body = struct.pack(">Q", sum(PAGE * n for n in blocks.values()) | 4)
    for name, pages in blocks.items():
        body += str8(name) + struct.pack(">Q", PAGE * pages)
        if name in sizes:
            body += struct.pack(">Q", sizes[name])
    return struct.pack(">BI", 1, RAM) + str8("ram") + \
        struct.pack(">II", 0, 4) + body + b"".join(records) + word(EOS) + \
        footer(RAM)


def part(*records, end=False):
    return struct.pack(">BI", 3 if end else 2, RAM) + b"".join(records) + \
        word(EOS) + footer(RAM)


def page(number, data, name=None):
    if name is None:
        return word(0x28, number) + data
    return word(0x08, number) + str8(name) + data


def zero(number, name=None):
    if name is None:
        return word(0x22, number) + b"\0"
    return word(0x02, number) + str8(name) + b"\0"


def device(number, name, body, version=1):
    return struct.pack(">BI", 4, number) + str8(name) + \
        struct.pack(">II", 0, version) + body + footer(number)


STATE = device(3, "timer", bytes(24)) + \
    device(4, "0000:00:02.0/e1000", bytes(range(256)) * 3) + \
    device(9, "globalstate", b"\0\0\0\7running" + bytes(93))


def describe(**devices):
    """The text behind EOF: {name: octets of its body}."""
    return json.dumps({"page_size": 4096, "devices": [
        {"name": name, "instance_id": 0, "fields": [
            {"name": "all", "type": "buffer", "size": size}]}
        for name, size in devices.items()]}).encode()


DESCRIPTION = describe(**{"timer": 24, "0000:00:02.0/e1000": 768,
                          "globalstate": 104})


def tail(state=STATE, description=DESCRIPTION):
    return state + struct.pack(">BBI", 0, 6, len(description)) + description


# ---- multifd ----------------------------------------------------------------


def init(channel):
    return struct.pack(">II16sB39x", 0x11223344, 1, bytes(16), channel)


def packet(flags=0, normal=(), zeroes=(), name="ram", alloc=128, size=None,
           number=0):
    """normal: {page: octets}; size: what is said of the payload's."""
    normal = dict(normal)
    payload = b"".join(normal.values())
    at = [PAGE * n for n in [*normal, *zeroes]]
    return struct.pack(
        ">IIIIIIQI4xQQQ256s128Q", 0x11223344, 1, flags, alloc, len(normal),
        len(payload) if size is None else size, number, len(zeroes), 0, 0, 0,
        name.encode(), *at, *[0] * (128 - len(at))) + payload


def sync():
    """As a newer QEMU does: nothing but that."""
    return packet(SYNC, name="", alloc=0)


# ---- a peer -----------------------------------------------------------------


class Connection:
    """Says things in the background, as whoever hears them may be waiting for
    another connection, and hears what is answered."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.sock.settimeout(40)
        self.heard = b""
        self.sayers = []

    def say(self, *data):
        before = self.sayers[-1] if self.sayers else None

        def run():
            if before:
                before.join()
            try:
                self.sock.sendall(b"".join(data))
            except OSError:
                pass        # a test looks at what became of it

        self.sayers.append(threading.Thread(target=run, daemon=True))
        self.sayers[-1].start()
        return self

    def said(self):
        """Until all is on its way."""
        for sayer in self.sayers:
            sayer.join(40)
            assert not sayer.is_alive()
        return self

    def hear(self, octets):
        """Exactly these next."""
        while len(self.heard) < len(octets):
            more = self.sock.recv(4096)
            assert more, f"ended after {self.heard.hex()}"
            self.heard += more
        assert self.heard[:len(octets)] == octets, self.heard.hex()
        self.heard = self.heard[len(octets):]
        return self

    def silent(self, seconds):
        """Nothing comes for so long."""
        self.sock.settimeout(seconds)
        try:
            more = self.sock.recv(4096)
            assert False, f"heard {more.hex() or 'the end'}"
        except socket.timeout:
            pass
        self.sock.settimeout(40)
        return self

    def ended(self):
        """It hangs up without a word."""
        try:
            return self.sock.recv(4096) == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()
