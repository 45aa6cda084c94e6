# SPDX-License-Identifier: MIT
"""A way from a source to a target that a test can be on.  What it does there
is a subclass: listen, change, count, write down, break."""

import os
import select
import socket
import sys
import threading


def _dial(uri):
    """Connected to tcp:HOST:PORT or unix:PATH."""
    kind, rest = uri.split(":", 1)
    if kind == "tcp":
        host, port = rest.rsplit(":", 1)
        return socket.create_connection((host, int(port)))
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(rest)
    except OSError:
        sock.close()
        raise
    return sock


class Proxy:
    """What connects to .uri is carried to target_uri, and back.  Listens on
    `path`, or without one at a port, of its own if it is 0."""

    def __init__(self, target_uri, path=None, port=0):
        self.target = target_uri
        if path:
            if os.path.exists(path):
                os.unlink(path)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen()
            self.uri = f"unix:{path}"
        else:
            self.listener = socket.create_server(("127.0.0.1", port))
            self.uri = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.wake, self.woken = socket.socketpair()
        self.ended = False
        self.other = {}         # socket: the one at the other end
        self.near = set()       # those of the source
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        self.ended = True
        self.stir()
        self.thread.join()
        for sock in [*self.other, self.listener, self.wake, self.woken]:
            sock.close()

    def stir(self):
        """Looks again at whom it hears."""
        self.wake.sendall(b"!")

    # ---- what a subclass may say; all in the proxy's thread -----------------

    def opened(self, near, far):
        """Nothing has been said on them."""

    def hears(self, sock):
        """False: what it says waits."""
        return True

    def passes(self, sock, data):
        """What goes on of what `sock` said, b"" if it has hung up."""
        return data

    def closed(self, sock):
        """It and its other end are gone."""

    # ---- the thread ------------------------------------------------------------

    def drop(self, sock):
        """Closed here: closed there."""
        if sock not in self.other:
            return
        self.closed(sock)
        for end in sock, self.other[sock]:
            del self.other[end]
            self.near.discard(end)
            end.close()

    def _accept(self):
        near, _ = self.listener.accept()
        try:
            far = _dial(self.target)
        except OSError:
            near.close()
            return
        self.near.add(near)
        self.other.update({near: far, far: near})
        self.opened(near, far)

    def _carry(self, sock):
        try:
            data = sock.recv(1 << 16)
        except OSError:
            data = b""
        data = self.passes(sock, data)
        try:
            if data and sock in self.other:
                self.other[sock].sendall(data)
                return
        except OSError:
            pass
        self.drop(sock)

    def _run(self):
        while not self.ended:
            heard = [s for s in self.other if self.hears(s)]
            ready, _, _ = select.select([self.listener, self.woken, *heard],
                                        [], [])
            for sock in ready:
                if sock is self.listener:
                    self._accept()
                elif sock is self.woken:
                    self.woken.recv(4096)
                elif sock in self.other:
                    self._carry(sock)


class Fuse(Proxy):
    """Breaks all that goes over it, and lets nobody through while it is
    open."""

    blown = False

    def blow(self):
        self.blown = True
        self.stir()

    def mend(self):
        self.blown = False

    def passes(self, sock, data):
        return b"" if self.blown else data

    def hears(self, sock):
        if self.blown:
            sock.shutdown(2)    # and it is heard that it has hung up
        return True


class Road(Proxy):
    """source.migrate(road.uri) arrives at the target; its answers can be kept
    back."""

    muted = False

    def mute(self):
        """What the target says is not heard any more."""
        self.muted = True
        self.stir()

    def unmute(self):
        self.muted = False
        self.stir()

    def hears(self, sock):
        return sock in self.near or not self.muted


def main():
    """proxy.py TARGET PORT: says its URI, then obeys "mute" and "unmute"; ends
    with its input, or when it is killed."""
    proxy = Road(sys.argv[1], port=int(sys.argv[2]))
    print(proxy.uri, flush=True)
    for line in sys.stdin:
        {"mute": proxy.mute, "unmute": proxy.unmute}[line.strip()]()
        print("done", flush=True)
    proxy.close()


if __name__ == "__main__":
    main()
