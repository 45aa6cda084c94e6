# SPDX-License-Identifier: MIT
"""A way on which the target's answers can be kept back."""

from proxy import Proxy


class Road(Proxy):
    """source.migrate(road.uri) arrives at the target's URI."""

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
