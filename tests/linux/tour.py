# SPDX-License-Identifier: MIT
"""A Linux guest that travels, and what it said on the way.

The serial port's output at each stay is a file of its own; end to end they are
what the guest said, with no character lost or twice.
"""

import inside

RAM = "--ram 192M"
TAIL = inside.TAIL
# A host that waits for its CPU, or whose packets are sent again, is not dead.
WATCHDOGS = "rcupdate.rcu_cpu_stall_timeout=300 watchdog_thresh=60"
PATIENT = "--set x-ferry-timeout=60000"


def boot(where, name, kernel, vcpus, user="root"):
    return Tour(where.vm(name, f"--kernel {kernel} --initrd /guest {RAM} "
                         f"--vcpus {vcpus} --append 'console=ttyS0 "
                         f"loglevel=4 {WATCHDOGS}'", user), vcpus)


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
        vm = where.vm(name, f"--vcpus {self.vcpus} {RAM} {PATIENT} "
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
        code, said = self.vm.migrate(uri, f"--json {PATIENT} {options}")
        assert code == 0, f"{said}\n{self.vm.errors()}\n{to.errors()}"
        self.arrive(to)

    def check(self):
        """Nothing was lost, nothing went back, nobody complains."""
        self.vm.ask("verify", r"VERIFIED \d+ 0\r?$")
        self.vm.ask("log", r"DONE log")
        inside.judge(self.console())

    def end(self):
        self.vm.say("end")
        assert self.vm.wait_exit() == 0, self.vm.errors()
