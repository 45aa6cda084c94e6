# SPDX-License-Identifier: MIT
"""A proxy between source and target that writes down all that both say, as a
capture (docs/dump.md): `ferry dump` reads it."""

import select
import socket
import struct
import threading
import time

TO_TARGET, TO_SOURCE, OPEN, CLOSE = range(4)


class Capture:
    """What connects to .port is carried to target_port, and to the file."""

    def __init__(self, target_port, path):
        self.target = "127.0.0.1", target_port
        self.file = open(path, "wb")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.wake, self.woken = socket.socketpair()
        self.other = {}         # socket: the one at the other end
        self.what = {}          # socket: (connection, TO_...)
        self.begin = time.monotonic()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Once both sides have closed all that they had open, or soon."""
        end = time.monotonic() + 10
        while self.other and time.monotonic() < end:
            time.sleep(0.02)
        self.wake.sendall(b"!")
        self.thread.join()
        for sock in [*self.other, self.listener, self.wake, self.woken]:
            sock.close()
        self.file.close()

    def _note(self, conn, what, data=b""):
        self.file.write(struct.pack(">dHBI", time.monotonic() - self.begin,
                                    conn, what, len(data)) + data)

    def _accept(self):
        near, _ = self.listener.accept()
        far = socket.create_connection(self.target)
        conn = len(self.what) // 2
        self.other.update({near: far, far: near})
        self.what.update({near: (conn, TO_TARGET), far: (conn, TO_SOURCE)})
        self._note(conn, OPEN)

    def _carry(self, sock):
        conn, way = self.what[sock]
        try:
            data = sock.recv(1 << 20)
            if data:
                self._note(conn, way, data)
                self.other[sock].sendall(data)
                return
        except OSError:
            pass
        for _ in range(2):
            self._note(conn, CLOSE)
        for end in sock, self.other[sock]:
            del self.other[end]
            end.close()

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
