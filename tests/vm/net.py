# SPDX-License-Identifier: MIT
"""Two hosts that are network namespaces, and the link between them."""

import os
import subprocess

import pytest

IP, IPTABLES = "/usr/sbin/ip", "/usr/sbin/iptables"


def _run(*words):
    done = subprocess.run(words, text=True, check=False, timeout=60,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}")


class Net:
    """"here" is 10.99.0.1, "there" is 10.99.0.2, and nothing else is."""

    ADDRESS = {"here": "10.99.0.1", "there": "10.99.0.2"}

    def __init__(self):
        self.name = {who: f"ferry-{who}-{os.getpid()}" for who in self.ADDRESS}
        self.made = []
        try:
            for who in self.ADDRESS:
                _run(IP, "netns", "add", self.name[who])
                self.made.append(who)
            _run(IP, "-n", self.name["here"], "link", "add", "wire", "type",
                 "veth", "peer", "name", "wire", "netns", self.name["there"])
            for who, address in self.ADDRESS.items():
                _run(IP, "-n", self.name[who], "address", "add",
                     f"{address}/24", "dev", "wire")
                for dev in "lo", "wire":
                    _run(IP, "-n", self.name[who], "link", "set", dev, "up")
        except RuntimeError:
            self.close()
            raise

    def inside(self, who):
        """Words before a command that runs there."""
        return [IP, "netns", "exec", self.name[who]]

    def down(self):
        _run(IP, "-n", self.name["here"], "link", "set", "wire", "down")

    def up(self):
        _run(IP, "-n", self.name["here"], "link", "set", "wire", "up")

    def drop(self, *directions):
        """Nothing of what `who` sends arrives, and nobody is told."""
        for who in directions or self.ADDRESS:
            _run(*self.inside(who), IPTABLES, "-A", "OUTPUT", "-o", "wire",
                 "-j", "DROP")

    def pass_again(self):
        for who in self.ADDRESS:
            _run(*self.inside(who), IPTABLES, "-F", "OUTPUT")

    def close(self):
        for who in self.made:
            _run(IP, "netns", "delete", self.name[who])
        self.made = []


def require():
    """Skips where there are no namespaces to be had."""
    if os.geteuid():
        pytest.skip("network namespaces need root")
    for tool in IP, IPTABLES:
        if not os.path.exists(tool):
            pytest.skip(f"{tool} is missing")
    try:
        net = Net()
    except RuntimeError as why:
        pytest.skip(f"no network namespaces: {why}")
    try:
        net.drop()
        net.pass_again()
    except RuntimeError as why:
        pytest.skip(f"no packet filter: {why}")
    finally:
        net.close()
