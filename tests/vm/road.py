# SPDX-License-Identifier: MIT
"""A way from a source to a target that a test can be on: it carries what both
say over TCP, and can keep the target's answers back."""

import select
import socket
import threading


def _parse(uri):
    _, host, port = uri.rsplit(":", 2)
    return host, int(port)


class Road:
    """source.migrate(road.uri) arrives at the target's URI."""

    def __init__(self, target_uri):
        self.target = _parse(target_uri)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.wake, self.woken = socket.socketpair()
        self.muted = self.ended = False
        self.other = {}         # socket: the one at the other end
        self.answers = set()    # those that come from the target
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def mute(self):
        """What the target says is not heard any more."""
        self._set(muted=True)

    def unmute(self):
        self._set(muted=False)

    def close(self):
        self._set(ended=True)
        self.thread.join()
        for sock in [*self.other, self.listener, self.wake, self.woken]:
            sock.close()

    def _set(self, **what):
        self.__dict__.update(what)
        self.wake.sendall(b"!")

    def _accept(self):
        near, _ = self.listener.accept()
        try:
            far = socket.create_connection(self.target)
        except OSError:
            near.close()
            return
        self.other.update({near: far, far: near})
        self.answers.add(far)

    def _carry(self, sock):
        other = self.other[sock]
        try:
            data = sock.recv(1 << 20)
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in sock, other:         # closed here: closed there
            del self.other[end]
            self.answers.discard(end)
            end.close()

    def _run(self):
        while not self.ended:
            heard = [s for s in self.other
                     if not (self.muted and s in self.answers)]
            ready, _, _ = select.select([self.listener, self.woken, *heard],
                                        [], [])
            for sock in ready:
                if sock is self.listener:
                    self._accept()
                elif sock is self.woken:
                    self.woken.recv(4096)
                elif sock in self.other:
                    self._carry(sock)
