# SPDX-License-Identifier: MIT
"""Debian's kernel in `ferry run`, its network and its disk in vhost-user
backends: virtio over MMIO as Linux's own drivers see it, moved by precopy and by
postcopy to backends that wait there, on the same disk.  The network has a pair of
queues for each vCPU, and each sends."""

import re

import tour

DISK = "/tmp/disk"
PAIRS = 2


class Backends:
    """One of each, for a VM of that name; told to end, they print figures."""

    def __init__(self, host, name):
        self.host, self.path = host, f"/tmp/{name}"
        for kind, words in (("net", f"--mode echo --pairs {PAIRS}"),
                            ("blk", f"--disk {DISK}")):
            self.host(f"setsid ferry-vhost-{kind} --socket {self.path}.{kind} "
                      f"--json --verbose {words} >{self.path}.{kind}.out "
                      f"2>{self.path}.{kind}.err & "
                      f"echo $! >{self.path}.{kind}.pid")
            self.host(f"while ! [ -e {self.path}.{kind} ]; do usleep 50000; "
                      "done")

    def options(self):
        return (f"--vhost-user-net {self.path}.net,queues={PAIRS} "
                f"--vhost-user-blk {self.path}.blk")

    def said(self):
        return self.host.run(f"cat {self.path}.net.err {self.path}.blk.err")[1]

    def close(self):
        for kind in "net", "blk":
            self.host.run(f"kill $(cat {self.path}.{kind}.pid)")


def goes_on(guest, times=2 * PAIRS):
    """Echoes come by each pair, and what is read from the disk is what was
    written."""
    for word in "PING", "DISK":
        guest.vm.wait(rf"^{word} \d+\r?$", times=times)


def test_its_network_and_disk_are_in_other_processes(here):
    here(f"dd if=/dev/zero of={DISK} bs=1M count=0 seek=64")
    ends = {name: Backends(here, name) for name in ("a", "b", "c")}

    def start(name, words):
        return here.vm(name, f"{tour.RAM} --vcpus {PAIRS} {ends[name].options()} "
                       f"{words}")

    try:
        guest = tour.Tour(start("a", "--kernel /vmlinux --initrd /devices "
                                "--append 'console=ttyS0 loglevel=4 "
                                f"patience=60 {tour.WATCHDOGS}'"), PAIRS)
        goes_on(guest)
        for name, options in (("b", "--precopy --max-pause 5s"),
                              ("c", "--postcopy")):
            incoming = f"unix:/tmp/{name}.way"
            to = start(name, f"{tour.PATIENT} --incoming {incoming}")
            to.listening()
            code, said = guest.vm.migrate(incoming, f"--json {tour.PATIENT} "
                                          f"{options}")
            assert code == 0, (f"{said}\n{guest.vm.errors()}\n{to.errors()}\n"
                               f"{ends[name].said()}")
            code, said = guest.vm.ferry(f"quit {guest.vm.path}.qmp")
            assert code == 0 and guest.vm.wait_exit() == 0, said
            guest.vms.append(to)
            goes_on(guest)
        check(guest.console(), moves=2)
    finally:
        for one in ends.values():
            one.close()


def check(said, moves):
    """No block came back wrong, and no echo was lost but one that was under way
    when the VM changed hands."""
    assert "BAD" not in said, said[-tour.TAIL:]
    assert said.count("LOST") <= moves, said[-tour.TAIL:]
    assert re.findall(r"^QUEUES (\d+)", said, re.M) == [str(PAIRS)]
    for word in "PING", "DISK":
        got = [int(line.split()[1]) for line in said.splitlines()
               if line.startswith(f"{word} ")]
        assert got == list(range(1, len(got) + 1)), said[-tour.TAIL:]
