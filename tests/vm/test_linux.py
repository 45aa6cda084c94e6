# SPDX-License-Identifier: MIT
"""Debian's kernel in this monitor: a guest that nobody wrote for its loader.

Where KVM emulates ring 0 (the development machines) Linux gets to its first
lines only; to see it in user space the monitor runs inside a QEMU without KVM
that is the "host", with KVM on emulated SVM in it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / 'linux'))
import debian  # noqa: E402

BUILD = Path(os.environ['FERRY_BUILD'])
BOOT = BUILD / 'tests/vm/vmm-boot'
STATIC = BUILD / 'tests/vm/vmm-boot-static'
LIMIT_S = 1500

# Of the guest in the guest.
INNER_INIT = b'''#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys
echo "USERSPACE cpus=$(nproc)"
grep -E 'ttyS0|LOC|RES' /proc/interrupts
grep -qwE 'svm|vmx' /proc/cpuinfo && echo NESTED
case "$(cat /proc/cmdline)" in
*test=echo*) echo SAY:; read x; echo "HEARD $x";;
*test=count*) for i in 0 1 2 3 4 5 6 7; do echo "TICK $i"; sleep 1; done;;
esac
case "$(cat /proc/cmdline)" in *end=reboot*) reboot -f;; esac
poweroff -f
'''

# Of the host.  mask=xsave: this emulated SVM does not tell KVM of XSETBV.
OUTER_INIT = b'''#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys
mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for m in irqbypass kvm kvm-amd; do insmod /$m.ko; done
C="console=ttyS0 quiet"
touch /tmp/log
(until grep -q SAY: /tmp/log; do sleep 1; done; echo hello) |
	/vmm-boot /bzimage initrd=/inner vcpus=2 mask=xsave seconds=600 \
	cmdline="$C test=echo end=reboot" | tee /tmp/log
echo "== moves"
/vmm-boot /vmlinux initrd=/inner ram=128 mask=xsave seconds=600 vcpus=2 \
	moves=6 every=5000 cmdline="$C test=count" </dev/null
echo "EXIT $?"
poweroff -f
'''


def test_it_boots_by_pvh_on_this_host():
    """Its first lines, and that it understood what it was told."""
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        pytest.skip('/dev/kvm is missing or not permitted')
    said = ''
    with subprocess.Popen(
            [BOOT, debian.vmlinux(), 'vcpus=2', f'seconds={LIMIT_S}',
             'cmdline=earlyprintk=ttyS0 console=ttyS0 i.am=ferry'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True) as boot:
        for line in boot.stdout:
            said += line
            if 'ACPI: APIC' in line:
                break
        boot.terminate()
    assert re.search(r'Linux version .*debian', said), said
    assert 'Command line: earlyprintk=ttyS0 console=ttyS0 i.am=ferry' in said
    assert '[mem 0x0000000000100000-0x000000000fffffff] usable' in said
    assert 'Hypervisor detected: KVM' in said
    assert 'FERRYPC' in said, said


@pytest.fixture(scope='module')
def nested(tmp_path_factory):
    """What the host that is a QEMU printed."""
    qemu = debian.need('qemu-system-x86_64', 'qemu-system-x86')
    if not STATIC.exists():
        pytest.skip('vmm-boot-static is not in this build')
    folder = tmp_path_factory.mktemp('nested')
    busybox = debian.busybox().read_bytes()
    inner = debian.initramfs(folder / 'inner', {
        'init': (0o755, INNER_INIT), 'bin/busybox': (0o755, busybox)})
    files = {name + '.ko': (0o644, debian.module(name).read_bytes())
             for name in ('irqbypass', 'kvm', 'kvm-amd')}
    files.update({
        'init': (0o755, OUTER_INIT),
        'bin/busybox': (0o755, busybox),
        'vmm-boot': (0o755, STATIC.read_bytes()),
        'inner': (0o644, inner.read_bytes()),
        'bzimage': (0o644, debian.bzimage().read_bytes()),
        'vmlinux': (0o644, debian.vmlinux().read_bytes()),
    })
    outer = debian.initramfs(folder / 'outer', files, packed=False)
    command = [
        # Why not all of max: tests/linux/host.py.
        qemu, '-accel', 'tcg,thread=multi', '-cpu', 'max,-vgif', '-smp', '1',
        '-m', '1536', '-display', 'none', '-monitor', 'none',
        '-serial', 'stdio', '-no-reboot', '-kernel', debian.bzimage(),
        '-initrd', outer, '-append', 'console=ttyS0 quiet panic=1']
    try:
        said = subprocess.run(command, stdin=subprocess.DEVNULL, check=False,
                              stdout=subprocess.PIPE, timeout=LIMIT_S).stdout
    except subprocess.TimeoutExpired as late:
        pytest.fail(f'not done after {LIMIT_S} s: {late.stdout}')
    return said.decode(errors='replace')


def test_a_bzimage_gets_to_user_space_with_two_vcpus(nested):
    first = nested.partition('== moves')[0]
    assert 'USERSPACE cpus=2' in first, nested
    assert 'NESTED' not in first    # state of such guests is not carried
    # both vCPUs take timer interrupts, and wake each other
    assert re.search(r'LOC: +[1-9]\d* +[1-9]', first), nested
    assert re.search(r'RES: +[1-9]\d* +[1-9]', first), nested


def test_the_serial_port_interrupts_and_hears(nested):
    first = nested.partition('== moves')[0]
    assert re.search(r'\b4: .*IO-APIC.*ttyS0', first), nested
    assert 'HEARD hello' in first, nested


def test_a_running_linux_goes_from_machine_to_machine(nested):
    second = nested.partition('== moves')[2]
    assert 'USERSPACE cpus=2' in second, nested
    assert [int(n) for n in re.findall(r'TICK (\d)', second)] == \
        list(range(8)), nested
    assert 'EXIT 0' in second, nested
