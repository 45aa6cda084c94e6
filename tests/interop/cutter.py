# SPDX-License-Identifier: MIT
"""A way from a source to `ferry park` that breaks after so many octets."""

import os
import select
import socket
import threading


class Cutter:
    """What connects to .uri is carried to `path`.  Once the source has said
    `at` octets on all connections, none of them goes on; new ones do."""

    def __init__(self, folder, path, at):
        self.path, self.left, self.cut = path, at, False
        self.seen = 0
        self.listener = socket.socket(socket.AF_UNIX)
        name = f"{folder}/cutter"
        if os.path.exists(name):
            os.unlink(name)
        self.listener.bind(name)
        self.listener.listen()
        self.uri = f"unix:{name}"
        self.wake, self.woken = socket.socketpair()
        self.other = {}         # socket: the one at the other end
        self.near = set()       # those of the source
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        self.wake.sendall(b"!")
        self.thread.join()
        for sock in [*self.other, self.listener, self.wake, self.woken]:
            sock.close()

    def _accept(self):
        near, _ = self.listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(self.path)
        except OSError:
            near.close()
            return
        self.near.add(near)
        self.other.update({near: far, far: near})

    def _drop(self, *socks):
        for sock in socks:
            self.other.pop(sock, None)
            self.near.discard(sock)
            sock.close()

    def _carry(self, sock):
        other = self.other[sock]
        try:
            data = sock.recv(1 << 16)
            if sock in self.near and not self.cut:
                data = data[:self.left]
                self.left -= len(data)
            if sock in self.near:
                self.seen += len(data)
            if data:
                other.sendall(data)
        except OSError:
            data = b""
        if not self.cut and not self.left:
            self.cut = True
            self._drop(*self.other)
        elif not data:
            self._drop(sock, other)

    def _run(self):
        while True:
            ready, _, _ = select.select(
                [self.listener, self.woken, *self.other], [], [])
            if self.woken in ready:
                return
            for sock in ready:
                if sock is self.listener:
                    self._accept()
                elif sock in self.other:
                    self._carry(sock)
