# SPDX-License-Identifier: MIT
"""A way from a source to a target that a test can be on.  What it does there
is a subclass: listen, change, count, write down, break."""

import os
import select
import socket
import sys
import threading
import time


def _prompt(sock):
    """What it is given goes out at once, as with who speaks through it."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _dial(uri):
    """Connected to tcp:HOST:PORT or unix:PATH."""
    kind, rest = uri.split(":", 1)
    if kind == "tcp":
        host, port = rest.rsplit(":", 1)
        return _prompt(socket.create_connection((host, int(port))))
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(rest)
    except OSError:
        sock.close()
        raise
    return sock


def hang_up(sock):
    """For both directions, if its other end has not done so."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


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
        self.ended, self.looks = False, 0
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

    def await_look(self):
        """Until it has, at all that was open before."""
        before = self.looks     # the one that is under way does not count
        while self.looks < before + 2:
            self.stir()
            time.sleep(0.001)

    # ---- what a subclass may say; all in the proxy's thread -----------------

    def opened(self, near, far):
        """Nothing has been said on them."""

    def hears(self, sock):
        """False: what it says waits."""
        return True

    def passes(self, sock, data):
        """What goes on of what `sock` said, b"" if it has hung up; None:
        nothing, for now."""
        return data

    def stirred(self):
        """Somebody wants it to look again."""

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
        near = _prompt(self.listener.accept()[0])
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
        if data is None:
            return
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
            self.looks += 1
            ready, _, _ = select.select([self.listener, self.woken, *heard],
                                        [], [])
            for sock in ready:
                if sock is self.listener:
                    self._accept()
                elif sock is self.woken:
                    self.woken.recv(4096)
                    self.stirred()
                elif sock in self.other:
                    self._carry(sock)


class Fuse(Proxy):
    """Breaks all that goes over it, and lets nobody through while it is
    open."""

    blown = False

    def blow(self):
        """When it returns, all that was open is broken."""
        self.blown = True
        self.await_look()

    def mend(self):
        self.blown = False

    def passes(self, sock, data):
        return b"" if self.blown else data

    def hears(self, sock):
        if self.blown:
            hang_up(sock)       # and it is heard that it has
        return True


CIPHERS = {0x1301: "AES-128-GCM", 0x1302: "AES-256-GCM",
           0x1303: "CHACHA20-POLY1305"}


def cipher_of(hello):
    """What a TLS 1.3 server chose, in the first record that it says."""
    assert hello[0] == 0x16 and hello[5] == 2, hello[:16].hex()
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    return CIPHERS[int.from_bytes(hello[at:at + 2], "big")]


class Witness(Proxy):
    """Sees which cipher each connection gets."""

    def __init__(self, *how):
        self.said = {}
        super().__init__(*how)

    def passes(self, sock, data):
        if sock not in self.near and data:
            self.said.setdefault(sock, data)
        return data

    def ciphers(self):
        return [cipher_of(hello) for hello in self.said.values()]


LOADED = bytes.fromhex("4601 0004 00000000")


class Road(Proxy):
    """source.migrate(road.uri) arrives at the target; its answers can be kept
    back, or that it has loaded all, and what goes there can be cut off."""

    muted = False
    last = None                 # the last word that is heard
    keeps = False               # LOADED, and that the target has hung up
    kept = None                 # who has said it
    hung_up = ()                # who has, of those that are kept
    room = None                 # for so many octets of the source, or any

    def mute(self):
        """What the target says is not heard any more."""
        self.muted = True
        self.stir()

    def mute_behind(self, octets):
        """Once it has said this, in hex, at the beginning of what comes."""
        self.last = bytes.fromhex(octets)

    def keep_loaded(self):
        """The target's signs of life go on, so that nobody is given up; that it
        is ready to run does not, nor then that it has hung up."""
        self.keeps = True

    def await_loaded(self):
        """Until that is kept."""
        while not self.kept:
            time.sleep(0.005)

    def pass_only(self, octets):
        """So many of the source's from now on, and then nothing of it."""
        self.room = octets

    def passes(self, sock, data):
        if sock in self.near:
            return self._of_source(data)
        if self.kept and not data:
            self.hung_up += sock,
            return None
        if self.keeps and not self.kept and LOADED in data:
            # What it says comes in whole messages.
            self.kept = sock
            return data.replace(LOADED, b"", 1) or None
        at = data.find(self.last) if self.last else -1
        if at < 0:
            return data
        self.muted = True
        data, self.last = data[:at + len(self.last)], None
        return data

    def _of_source(self, data):
        if self.room is None or not data:
            return data
        data = data[:self.room]
        self.room -= len(data)
        return data or None

    def stirred(self):
        if not self.keeps and self.kept in self.other:
            try:
                self.other[self.kept].sendall(LOADED)
            except OSError:
                pass            # the source has hung up
        if not self.keeps:
            self.kept, self.hung_up = None, ()

    def unmute(self):
        """All that was kept back goes on."""
        self.muted = self.keeps = False
        self.stir()

    def hears(self, sock):
        if sock in self.near:
            return self.room != 0
        return not self.muted and sock not in self.hung_up


def main():
    """proxy.py TARGET PORT: says its URI, then obeys "mute", "unmute", "keep
    loaded" and "await loaded"; ends with its input, or when it is killed."""
    proxy = Road(sys.argv[1], port=int(sys.argv[2]))
    print(proxy.uri, flush=True)
    for line in sys.stdin:
        getattr(proxy, line.strip().replace(" ", "_"))()
        print("done", flush=True)
    proxy.close()


if __name__ == "__main__":
    main()
