# SPDX-License-Identifier: MIT
"""`ferry serve` to a real QEMU over connections that break: what serve says of
the VM is so, and the next try from the same image succeeds."""

import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import qemu
from cutter import Cutter
from steps import capabilities, ended, runs, status

# Without AVX: see test_guest_migration.py.
GUEST = "cpus=1 mode=random mem=25% report=100 avx=0"
RAM_MB = 16
DEVICES = 16 << 10      # octets of their state, about


@pytest.fixture(scope="module")
def image():
    qemu.require()
    folder = Path(tempfile.mkdtemp(prefix="ferry-io-"))
    path, door = folder / "vm", f"unix:{folder}/door"
    park = subprocess.Popen([os.environ["FERRY"], "park", "--quiet", door,
                             path], stdin=subprocess.DEVNULL)
    with qemu.Qemu(folder, "a", GUEST, ram_mb=RAM_MB) as source:
        source.wait_line("READY")
        capabilities(source, "return-path")
        qemu.wait_until("it listens", lambda: qemu.listens(folder / "door"))
        source.qmp("migrate", uri=door)
        assert ended(source, "completed", "failed") == "completed"
    assert park.wait(60) == 0
    yield path
    shutil.rmtree(folder)


class Host(qemu.Qemu):
    """Waits at .uri."""

    def __init__(self, folder, name, *caps):
        super().__init__(folder, name, GUEST, ram_mb=RAM_MB,
                         args=["-incoming", "defer"])
        capabilities(self, *caps)
        self.uri = f"unix:{folder}/{name}.in"
        self.qmp("migrate-incoming", uri=self.uri)

    def settle(self):
        """True when it runs; False when it does not, and will not."""
        def settled():
            try:
                return status(self) in ("completed", "postcopy-paused") and \
                    ("runs" if runs(self) else "stands still")
            except (OSError, ValueError):
                self.process.wait(20)
                return "ended"

        return qemu.wait_until("QEMU to settle", settled) == "runs"


def serve(image, uri, *words):
    """(exit code, where it says that the VM is, why)."""
    done = subprocess.run([os.environ["FERRY"], "serve", "--quiet", "--json",
                           str(image), uri, *words], text=True, timeout=150,
                          stdin=subprocess.DEVNULL, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, json.loads(done.stdout)["where"], done.stderr


def succeeds(image, folder, mode, name="whole"):
    """How many octets it takes."""
    words, caps = MODES[mode]
    with Host(folder, name, *caps) as host:
        way = Cutter(folder, host.uri)
        assert serve(image, way.uri, *words)[:2] == (0, "target")
        way.close()
        assert runs(host)
        assert host.verify()["bad"] == 0 and not host.log.bad
    return way.seen


MODES = {"precopy": (["--precopy"], []),
         "postcopy": ([], ["postcopy-ram"])}

# Nothing comes that is not asked for.
ASK = ["--set", "x-ferry-background-push=off"]


def spread(whole, n, *where):
    """n places, and some near these."""
    seed = random.Random(whole)
    return sorted([1, whole - 1, *(seed.randrange(whole) for _ in range(n)),
                   *(at for low, high in where
                     for at in seed.sample(range(low, high), 4))])


def cuts_in(mode, whole):
    """Octets of the source, octets of the target."""
    if mode == "precopy":
        return spread(whole, 8, (whole - DEVICES, whole), (whole - 11, whole)
                      ), [1, 4, 7, 8, 9, 12, 15]
    return spread(whole, 5, (1, 400), (400, DEVICES)), \
        [1, 4, 7, 8, 9, 20, 31, 60, 200, 400]


def try_cut(image, folder, mode, number, more=(), **cut):
    """What became of it."""
    words, caps = MODES[mode]
    with Host(folder, f"b{number}", *caps) as host:
        way = Cutter(folder, host.uri, **cut)
        code, where, said = serve(image, way.uri, *words, *more)
        way.close()
        running = host.settle()
        told = f"{mode}, cut at {cut}: {code} {where}, runs: {running}; {said}"
        assert (code, where) in ((0, "target"), (1, "image"),
                                 (3, "undecided"), (3, "split")), told
        assert said.count("\n") == (code != 0), told
        # It never runs where serve says that it does not.
        assert code or (running and status(host) == "completed"), told
        assert not running or code != 1, told
        return code, running


@pytest.mark.parametrize("mode, least", [("precopy", 25), ("postcopy", 20)])
def test_cuts_leave_the_vm_where_serve_says(image, folder, mode, least):
    forth, back = cuts_in(mode, succeeds(image, folder, mode))
    cuts = [{"at": at} for at in forth] + [{"back": at, "more": ASK}
                                           for at in back]
    found = []
    assert len(cuts) == 25
    for number, cut in enumerate(cuts):
        found.append(try_cut(image, folder, mode, number, **cut))
        if number % 5 == 4:
            succeeds(image, folder, mode, f"w{number}")
    assert len([code for code, _ in found if code]) >= least


# ---- the link is found again ------------------------------------------------


class Detour(Cutter):
    """After the cut it leads to where nobody is yet."""

    def drop(self, sock):
        super().drop(sock)
        self.target = f"{self.target.removesuffix('2')}2"


@pytest.mark.parametrize("more", [[], ["--preempt"]], ids=["plain", "preempt"])
@pytest.mark.parametrize("way_of", [Cutter, Detour])
def test_a_vm_that_runs_already_gets_the_rest_later(image, folder, more,
                                                    way_of):
    """Its memory is right, whatever it did meanwhile.  A QEMU 7.2 listens on
    where it did; others, and elsewhere, when told to."""
    caps = ["postcopy-ram", *["postcopy-preempt"] * len(more)]
    with Host(folder, "b", *caps) as host, \
            open(folder / "said", "w+", encoding="utf-8") as said:
        way = way_of(folder, host.uri, 1_500_000)
        process = subprocess.Popen(
            [os.environ["FERRY"], "serve", "--recover", *more, str(image),
             way.uri], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            if way_of is Detour:
                host.wait("the break",
                          lambda: status(host) == "postcopy-paused")
                host.qmp("migrate-recover", uri=f"{host.uri}2")
            code = process.wait(60)
            told = (folder / "said").read_text(encoding="utf-8")
            assert code == 0 and told.count("\n") == 2, told
            assert "waiting for the host to listen again" in told
        finally:
            process.kill()
            process.wait()
            way.close()
        host.wait("the end", lambda: status(host) == "completed")
        assert runs(host)
        assert host.verify()["bad"] == 0 and not host.log.bad
