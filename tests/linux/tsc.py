# SPDX-License-Identifier: MIT
"""The time stamp counter that a Linux under TCG has, so that it need not
measure it."""

import ctypes
import mmap
import time

# What Linux measures while QEMU has to wait for a CPU is wrong: it panics for
# want of a timer, or takes its TSC for one of another speed than the other
# host's, and then no guest may move.
MEASURE_NOTHING = "no_timer_check tsc_early_khz="


def tsc_khz():
    """How fast the time stamp counter is, QEMU's too."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE |
                     mmap.PROT_EXEC)
    # rdtsc; shl $32, %rdx; or %rdx, %rax; ret
    code.write(b"\x0f\x31\x48\xc1\xe2\x20\x48\x09\xd0\xc3")
    at = ctypes.addressof(ctypes.c_char.from_buffer(code))
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(at)
    first, begin = rdtsc(), time.monotonic_ns()
    time.sleep(0.3)
    last, end = rdtsc(), time.monotonic_ns()
    return (last - first) * 1000000 // (end - begin)
