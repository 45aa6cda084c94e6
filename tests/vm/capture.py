# SPDX-License-Identifier: MIT
"""A way that writes down all that both sides say, as a capture
(docs/dump.md): `ferry dump` reads it."""

import struct
import time

from proxy import Proxy

TO_TARGET, TO_SOURCE, OPEN, CLOSE = range(4)


class Capture(Proxy):
    """What connects to .uri is carried to target_uri, and to the file."""

    def __init__(self, target_uri, path):
        self.file = open(path, "wb")
        self.connections = 0
        self.what = {}          # socket: (connection, TO_...)
        self.begin = time.monotonic()
        super().__init__(target_uri)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Once both sides have closed all that they had open."""
        end = time.monotonic() + 60
        while self.other and time.monotonic() < end:
            time.sleep(0.02)
        self.close()
        self.file.close()

    def _note(self, conn, what, data=b""):
        self.file.write(struct.pack(">dHBI", time.monotonic() - self.begin,
                                    conn, what, len(data)) + data)

    def opened(self, near, far):
        conn = self.connections
        self.connections += 1
        self.what.update({near: (conn, TO_TARGET), far: (conn, TO_SOURCE)})
        self._note(conn, OPEN)

    def passes(self, sock, data):
        if data:
            self._note(*self.what[sock], data)
        return data

    def closed(self, sock):
        for _ in range(2):
            self._note(self.what[sock][0], CLOSE)
