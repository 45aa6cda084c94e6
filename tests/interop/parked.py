# SPDX-License-Identifier: MIT
"""A small VM that is said to `ferry park`, by a source that is no QEMU."""

import struct

from source import (ADVISE, LISTEN, OPEN_RETURN_PATH, PAGE, PONG, RUN, STATE,
                    DESCRIPTION, Connection, discard, head, packaged, page,
                    part, ping, start, zero)

BLOCKS = {"ram": 300, "rom": 4}
NEW = "pc-i440fx-10.2"


def fill(number, version=1):
    return struct.pack(">QQ", number, version) * 256


def whole(version=1):
    return {n: fill(n, version) for n in range(BLOCKS["ram"])}


def all_pages(name, pages, but=()):
    """Records of a block."""
    return b"".join(page(n, fill(n), name) for n in range(pages)
                    if n not in but)


class Peer:
    def __init__(self, one):
        self.one = one
        self.path = one.uri.removeprefix("unix:")
        self.connections = []
        one.wait_listening()

    def connect(self):
        self.connections.append(Connection(self.path))
        return self.connections[-1]

    def close(self):
        for one in self.connections:
            one.close()


def check(peer, ram, rom=None, state=STATE, description=DESCRIPTION):
    """The image has these pages (those that are not named are zero), and the
    state as it came."""
    peer.close()
    code, said = peer.one.wait()
    assert code == 0, said
    for name, want in ("ram", ram), ("rom", rom or {}):
        found = peer.one.cat(name)
        assert len(found) == BLOCKS[name] * PAGE
        for n in range(BLOCKS[name]):
            assert found[n * PAGE:n * PAGE + PAGE] == \
                want.get(n, bytes(PAGE)), f"page {n} of {name}"
    assert peer.one.cat("--state") == state
    assert peer.one.cat("--vmdesc") == description


def zeroes(name, pages):
    return b"".join(zero(n, name) for n in range(pages))


def package(loaded, state=STATE):
    return packaged(LISTEN + state + ping(3) + ping(0x42) * loaded + RUN)


PRECOPIED = part(all_pages("ram", 200), zeroes("rom", 4))
LATER = {n: fill(n, 9) for n in [*range(50, 60), *range(200, 300)]}
DISCARD = discard("ram", (50, 10), (200, 100))


def begin(peer, machine, *before):
    main = peer.connect().say(*before, head(machine), OPEN_RETURN_PATH,
                              ping(1), ADVISE)
    main.hear(PONG[1])
    return main.say(start(BLOCKS), PRECOPIED)


def records(pages):
    return b"".join(page(n, data, "ram") for n, data in pages.items())


def aside(peer):
    return f"{peer.one.image}.undecided"


def hear_some(main):
    """PONG 4 and those of the package come in any order."""
    main.heard += main.sock.recv(4096)


def returning(park, *options):
    return Peer(park(*options))
