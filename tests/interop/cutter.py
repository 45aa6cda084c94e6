# SPDX-License-Identifier: MIT
"""A way from a source to a target that breaks after so many octets."""

from proxy import Proxy

# What QEMU asks for right behind the package with which postcopy begins.
PONG_4 = bytes.fromhex("0002 0004 00000004")


class Cutter(Proxy):
    """Once the source has said `at` octets on all connections, or the target
    `back`, none of them goes on; new ones do.  .handed_over: the target has
    the VM's devices."""

    def __init__(self, folder, target_uri, at=1 << 40, back=1 << 40):
        self.left, self.back, self.cut, self.seen = at, back, False, 0
        self.handed_over, self.tail = False, b""
        super().__init__(target_uri, f"{folder}/cutter")

    def answers(self, data):
        self.tail = self.tail[-len(PONG_4):] + data
        self.handed_over |= PONG_4 in self.tail
        if not self.cut:
            data = data[:self.back]
            self.back -= len(data)
        return data

    def passes(self, sock, data):
        if sock not in self.near:
            return self.answers(data)
        if not self.cut:
            data = data[:self.left]
            self.left -= len(data)
        self.seen += len(data)
        return data

    def _carry(self, sock):
        super()._carry(sock)
        if not self.cut and not (self.left and self.back):
            self.cut = True
            for one in list(self.other):
                self.drop(one)
