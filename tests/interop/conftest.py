# SPDX-License-Identifier: MIT
"""The helpers of tests/vm serve here, too."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

import qemu  # noqa: E402
from parked import Peer  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitize: runs in the builds with "
                            "sanitizers, too, where there is less time")


@pytest.fixture
def folder():
    """Short, as the path of a socket has to be."""
    path = tempfile.mkdtemp(prefix="ferry-io-")
    yield Path(path)
    shutil.rmtree(path, ignore_errors=True)


class Park:
    """`ferry park` and what became of it."""

    def __init__(self, folder, *options, name="vm", uri=None):
        self.image = folder / name
        self.uri = uri or f"unix:{folder}/{name}.sock"
        self.errors = open(folder / f"{self.image.name}.err", "a+",
                           encoding="utf-8")
        self.process = subprocess.Popen(
            [os.environ["FERRY"], "park", "--quiet", *options, self.uri,
             str(self.image)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def wait(self, timeout=150):
        """(exit code, what it said)."""
        out, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, out + self.said()

    def wait_listening(self):
        """Who comes before that is refused.  One that never listened has
        ended."""
        path = self.uri.removeprefix("unix:")
        qemu.wait_until("park listens", lambda: qemu.listens(path) or
                        self.process.poll() is not None)

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.errors.close()

    def cat(self, *what):
        return subprocess.run([os.environ["FERRY_IMAGE_CAT"], self.image,
                               *what], check=True,
                              stdout=subprocess.PIPE).stdout


@pytest.fixture
def park(folder):
    parks = []

    def make(*options, **how):
        parks.append(Park(folder, *options, **how))
        return parks[-1]

    yield make
    for one in parks:
        one.close()


@pytest.fixture
def peer(park):
    peers = []

    def make(*options):
        peers.append(Peer(park("--once", *options)))
        return peers[-1]

    yield make
    for one in peers:
        one.close()
