# SPDX-License-Identifier: MIT
"""A Linux guest that travels, and what it said on the way.

The serial port's output at each stay is a file of its own; end to end they are
what the guest said, with no character lost or twice.
"""

import re

import host

RAM = "--ram 192M"
# Not: that the guest distrusts its TSC.  The host does so, too (it takes an AMD
# CPU without constant TSC for what it looks like), and KVM then bends it.
TROUBLE = re.compile(r".*(?:soft lockup|hard LOCKUP|rcu.*stall|blocked for more"
                     r"|\bBUG\b|Oops|WARNING:|Call Trace|segfault|^BAD).*",
                     re.M)
TICK = re.compile(r"^TICK (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)\r?$", re.M)


def boot(where, name, kernel, vcpus, user="root"):
    return Tour(where.vm(name, f"--kernel {kernel} --initrd /guest {RAM} "
                         f"--vcpus {vcpus} --append 'console=ttyS0 "
                         f"loglevel=4'", user), vcpus)


def around(said, line):
    """What was said before and after."""
    at = said.index(line)
    return said[max(at - 1000, 0):at + 500]


class Tour:
    """vms: the processes it has lived in, the last one is where it is."""

    def __init__(self, vm, vcpus):
        self.vms, self.vcpus = [vm], vcpus

    @property
    def vm(self):
        return self.vms[-1]

    def console(self):
        return "".join(vm.console() for vm in self.vms)

    def settled(self):
        """Everything in it is at work."""
        self.vm.wait(rf"USERSPACE cpus={self.vcpus} ")
        self.vm.wait(r"TICK 5 ")
        self.vm.wait(r"PAGES [1-9]")
        self.vm.wait(r"REDIS [1-9]")

    def prepare(self, where, name, incoming):
        """Somewhere to go to."""
        vm = where.vm(name, f"--vcpus {self.vcpus} {RAM} "
                      f"--incoming {incoming}", self.vm.user)
        vm.listening()
        return vm

    def arrive(self, vm):
        """It was moved to this one, and all that is in it goes on there."""
        code, said = self.vm.ferry(f"quit {self.vm.path}.qmp")
        assert code == 0 and self.vm.wait_exit() == 0, said
        self.vms.append(vm)
        for word in r"TICK \d", r"PAGES \d", r"REDIS \d":
            vm.wait(word, times=3)

    def move(self, to, uri, options):
        """The whole way, undisturbed."""
        code, said = self.vm.migrate(uri, f"--json {options}")
        assert code == 0, f"{said}\n{self.vm.errors()}\n{to.errors()}"
        self.arrive(to)

    def check(self):
        """Nothing was lost, nothing went back, nobody complains."""
        self.vm.ask("verify", r"VERIFIED \d+ 0\r?$")
        self.vm.ask("log", r"DONE log")
        said = self.console()
        found = TROUBLE.findall(said)
        assert not found, f"{said[-host.TAIL:]}\n{found}"
        ticks = [[int(n) for n in t] for t in TICK.findall(said)]
        for last, now in zip(ticks, ticks[1:]):
            where = around(said, f"TICK {now[0]} ")
            assert now[0] == last[0] + 1, where
            assert all(a < b for a, b in zip(last[1:4], now[1:4])), where
            assert last[4] <= now[4], where
            assert now[5] == 0, f"a clock went back: {where}"
        for kind in "PAGES", "REDIS":
            rows = re.findall(rf"^{kind} (\d+) (\d+)\r?$", said, re.M)
            for i, (steps, bad) in enumerate(rows):
                where = around(said, f"{kind} {steps} ")
                assert int(steps) == int(rows[0][0]) * (i + 1), where
                assert bad == "0", where

    def end(self):
        self.vm.say("end")
        assert self.vm.wait_exit() == 0, self.vm.errors()
