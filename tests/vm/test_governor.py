# SPDX-License-Identifier: MIT
"""A link with much buffer: who waits for a page waits behind the push, unless
that is held back for the faults."""

import subprocess

import net as nets
from ferryvm import Vm

TC = "/usr/sbin/tc"
RATE, BUFFER = "400mbit", "4mb"         # 84 ms of it
WANTED_US = 4000


def one(ferry, folder, guest, name, *settings):
    """How long the guest waited: the target's word, and the source's."""
    net = nets.Net()
    try:
        subprocess.run([*net.inside("here"), TC, "qdisc", "add", "dev", "wire",
                        "root", "tbf", "rate", RATE, "burst", "64kb",
                        "limit", BUFFER], check=True)
        with Vm(ferry, folder, name + "b", vcpus=1, ram="256M",
                wrapper=net.inside("there"),
                incoming="tcp:0.0.0.0:4712") as target, \
            Vm(ferry, folder, name + "a", vcpus=1, ram="256M", kernel=guest,
               append="cpus=1 mode=random mem=192M report=100",
               wrapper=net.inside("here")) as source:
            source.serial.wait(lambda log: log.ready)
            source.migrate(f"tcp:{net.ADDRESS['there']}:4712", "postcopy",
                           settings)
            source.wait_migration("completed")
            faults = target.qmp("query-migrate")["x-ferry-faults"]
            took_ms = source.qmp("query-migrate")["total-time"]
            said = source.qmp("query-migrate")["x-ferry-faults"]
    finally:
        net.close()
    print(f"{name}: p50 {faults['p50-us']} us, p99 {faults['p99-us']} us, "
          f"{faults['count']} faults, {took_ms} ms; {said}")
    return faults["p99-us"], said


def test_the_push_is_held_back_for_the_faults(ferry, folder, guest, kvm):
    nets.require()
    free, said = one(ferry, folder, guest, "free")
    assert "push-limit" not in said
    held, said = one(ferry, folder, guest, "held",
                     ("x-ferry-max-fault-p99", WANTED_US))
    assert said["push-limit"] > 0
    assert held < 0.6 * free
