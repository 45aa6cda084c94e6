# SPDX-License-Identifier: MIT
"""From samples and stamps to figures.  Pure."""

import math
import statistics

BEAT_MS = 1.0           # between two bytes of the guest's heartbeat
WINDOW_S = 1.0          # after the switch: what the guest then felt
BACK_AT = 0.9           # of the speed before
BACK_FOR_S = 0.1        # on average over this long
NEAR_S = 0.25           # how well the guest's time is known beforehand
WAIT_US = 64            # a gap that is longer is a wait


def speed(samples):
    """Iterations per second over consecutive samples (start_us is theirs)."""
    us = samples[-1]["us"] - samples[0]["start_us"]
    return sum(s["iter"] for s in samples) * 1e6 / us if us > 0 else 0.0


def with_starts(traced):
    """The TRACE lines as dicts, each with the time it began.  The first one
    has no beginning and is left out."""
    return [dict(s.values, start_us=before["us"])
            for before, s in zip(traced, traced[1:])]


def find_switch(samples, near_us, host_pause_ms):
    """Index of the sample that ends with the pause: about where it must be,
    the gap most like what the host saw."""
    near = [i for i, s in enumerate(samples)
            if abs(s["us"] - near_us) < NEAR_S * 1e6 + host_pause_ms * 1e3]
    if not near:
        return None
    return min(near, key=lambda i: abs(samples[i]["gap_us"] / 1e3 -
                                       host_pause_ms))


def is_confirmed(guest_ms, host_ms):
    """A beat may have been due for as long as it takes to the next one."""
    return abs(host_ms - guest_ms) <= BEAT_MS + max(2.0, 0.1 * guest_ms)


def add_gaps(samples):
    total = {}
    for s in samples:
        for bound, n in s["gaps"].items():
            total[bound] = total.get(bound, 0) + n
    return total


def percentile(gaps, p, of=None):
    """Of doubling buckets {upper bound: count}, interpolated inside one.
    of: how many there are, when most are not worth a count."""
    total = of or sum(gaps.values())
    above = total * (1 - p / 100)
    for bound in sorted(gaps, reverse=True):
        if gaps[bound] < above:
            above -= gaps[bound]
            continue
        if bound == math.inf:
            return float(1 << 26)
        low = bound / 2 if bound > 1 else 0
        return bound - (bound - low) * above / gaps[bound]
    return min(gaps, default=0.0)


def back_after_ms(samples, switch, before):
    """From the moment the guest stopped to that it goes as before."""
    stopped = samples[switch]["us"] - samples[switch]["gap_us"]
    after = samples[switch + 1:]
    for i, s in enumerate(after):
        window = [t for t in after[i:]
                  if t["start_us"] < s["start_us"] + BACK_FOR_S * 1e6]
        if after[-1]["us"] - s["start_us"] < BACK_FOR_S * 1e6:
            break
        if speed(window) >= BACK_AT * before:
            return (s["start_us"] - stopped) / 1e3
    return None


def speed_during(samples, from_us):
    """Before the switch; None when there was hardly any such time."""
    during = [s for s in samples if from_us and s["start_us"] >= from_us]
    return speed(during) if during else None


def course(samples, stopped_us):
    """To look at, or to plot: [end in ms after the guest stopped, iterations
    a second, longest gap in ms] of each sample."""
    return [[round((s["us"] - stopped_us) / 1e3, 1), round(speed([s])),
             s["gap_us"] / 1e3] for s in samples]


def from_trace(traced, near_us, quiet_until_us, host_pause_ms,
               moving_from_us=None):
    """What the guest felt.  quiet_until_us: up to here nothing happened;
    moving_from_us: from here on it was being moved."""
    samples = with_starts(traced)
    before = [s for s in samples if s["us"] <= quiet_until_us]
    switch = find_switch(samples, near_us, host_pause_ms)
    if not before or switch is None:
        raise ValueError("the guest's samples do not cover the switch")
    pause_ms = samples[switch]["gap_us"] / 1e3
    end_us = samples[switch]["us"]
    after = [s for s in samples[switch + 1:]
             if s["start_us"] < end_us + WINDOW_S * 1e6]
    iterations = sum(s["iter"] for s in after)
    gaps = add_gaps(after)
    return {
        "pause_ms": pause_ms,
        "pause_host_ms": host_pause_ms,
        "pause_confirmed": is_confirmed(pause_ms, host_pause_ms),
        "stall_max_ms": max((s["gap_us"] for s in after), default=0) / 1e3,
        "loop_p99_us": percentile(gaps, 99, iterations),
        "back_ms": back_after_ms(samples, switch, speed(before)),
        "speed_before": speed(before),
        "speed_during": speed_during(samples[:switch], moving_from_us),
        "speed_after": speed(after) if after else 0.0,
        "course": course(samples, end_us - samples[switch]["gap_us"]),
    }


def summary(runs, key):
    """{"median": ..., "min": ..., "max": ..., "n": ...} or None."""
    values = [r[key] for r in runs if isinstance(r.get(key), (int, float))]
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values),
            "max": max(values), "n": len(values)}


def waits(traced, stopped_us):
    """What the guest waited for in the second after it went on.  stopped_us:
    when it stopped, by its own clock, which may have stood still since."""
    samples = with_starts(traced)
    first = next((i for i, s in enumerate(samples)
                  if s["us"] >= stopped_us), None)
    before = [s for s in samples if s["us"] < stopped_us]
    if first is None or not before:
        raise ValueError("the guest's samples do not cover the switch")
    # That time is known to some ms; if its clock went on, the gap is long.
    switch = max(range(first, min(first + 3, len(samples))),
                 key=lambda i: samples[i]["gap_us"])
    end_us = samples[switch]["us"]
    after = [s for s in samples[switch + 1:]
             if s["start_us"] < end_us + WINDOW_S * 1e6]
    gaps = {bound: n for bound, n in add_gaps(after).items()
            if bound > WAIT_US}
    if not after:
        raise ValueError("the guest did not go on for long enough")
    return {
        "gaps": gaps,
        "waits": sum(gaps.values()),
        "wait_p50_us": percentile(gaps, 50),
        "wait_p99_us": percentile(gaps, 99),
        "wait_max_ms": max(s["gap_us"] for s in after) / 1e3,
        "speed_percent": 100 * speed(after) / speed(before),
    }
