# SPDX-License-Identifier: MIT
"""A backend that offers less than it can: a way to it on which bits of its
features are left out."""

import array
import os
import select
import socket
import struct
import threading

GET_FEATURES, GET_PROTOCOL_FEATURES = 1, 15
LOG_ALL = 1 << 26               # of the features
NET_MQ = 1 << 22
LOG_SHMFD, PAGEFAULT = 1 << 1, 1 << 8   # of the protocol's
HEADER = struct.Struct("<III")
FDS_MAX = 8


def _receive(sock):
    fds = array.array("i")
    data, more, _, _ = sock.recvmsg(
        65536, socket.CMSG_SPACE(FDS_MAX * fds.itemsize))
    for _, _, octets in more:
        fds.frombytes(octets)
    return data, list(fds)


def _send(sock, data, fds):
    more = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
    sock.sendmsg([data], more if fds else [])
    for fd in fds:
        os.close(fd)


class Masked:
    """Listens at .socket, for one front-end after the other; `without` is what
    is left out of the answer to each request."""

    def __init__(self, backend, without):
        self.process = backend.process
        self.to, self.socket = backend.socket, backend.socket + ".masked"
        self.without = without
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            with near, socket.socket(socket.AF_UNIX) as far:
                far.connect(self.to)
                self._carry(near, far)

    def _carry(self, near, far):
        while True:
            for sock in select.select([near, far], [], [])[0]:
                try:
                    data, fds = _receive(sock)
                    if not data:
                        return
                    _send(far if sock is near else near,
                          data if sock is near else self._left(data), fds)
                except OSError:
                    return

    def _left(self, data):
        """Answers of eight octets, which come one at a time."""
        if len(data) != HEADER.size + 8:
            return data
        request, _, _ = HEADER.unpack_from(data)
        value, = struct.unpack_from("<Q", data, HEADER.size)
        return data[:HEADER.size] + struct.pack(
            "<Q", value & ~self.without.get(request, 0))


WITHOUT_LOG = {GET_FEATURES: LOG_ALL, GET_PROTOCOL_FEATURES: LOG_SHMFD}
WITHOUT_PAIRS = {GET_FEATURES: NET_MQ}
WITHOUT_FAULTS = {GET_PROTOCOL_FEATURES: PAGEFAULT}
