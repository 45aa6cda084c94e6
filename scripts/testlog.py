# SPDX-License-Identifier: MIT
"""What meson's testlog.json says, as single cases with a verdict each.

One meson test is one program, but what we count is what it checks:

  cmocka    prints TAP when asked by CMOCKA_MESSAGE_OUTPUT=TAP
  pytest    writes the file named by its --junitxml argument
  others    are one case: exit code 0, 77 (skipped), or anything else

A program that dies half-way must never look like success: what a TAP plan
promised and did not deliver failed, and so did a program whose exit code says
so although each of its cases passed.
"""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

PASSED, FAILED, SKIPPED = 'passed', 'failed', 'skipped'

TAP_PLAN = re.compile(r'^1\.\.(\d+)\s*$')
TAP_CASE = re.compile(r'^(not ok|ok) (\d+)\b(?:\s*-)?\s*(.*)$')
TAP_SKIP = re.compile(r'#\s*SKIP\b\s*(.*)$', re.I)


@dataclass
class Case:
    test: str           # meson's name of the program
    name: str           # of the case within it, or ''
    verdict: str
    reason: str = ''    # why skipped, or what kind of failure

    def __str__(self):
        return f'{self.test}: {self.name}' if self.name else self.test


def read(path):
    """Yields (run, cases) for each program of a testlog.json."""
    with open(path, encoding='utf-8', errors='replace') as f:
        for line in f:
            if line.strip():
                run = json.loads(line)
                # "ferry:unit / chan-uri" when several suites were run
                run['name'] = run['name'].split(' / ')[-1]
                yield run, cases(run)


def cases(run):
    test = run['name']
    inner = from_junit(run) or from_tap(run)
    if run['result'] == 'TIMEOUT':
        inner = [c for c in inner if c.verdict != FAILED]
        inner.append(Case(test, '', FAILED, 'ran out of time'))
    elif not inner:
        inner = [whole(run)]
    elif run['returncode'] not in (0, 77) and none_failed(inner):
        inner.append(Case(test, '', FAILED,
                          f'exit code {run["returncode"]}'))
    return [demand_reason(c) for c in inner]


def none_failed(inner):
    return all(c.verdict != FAILED for c in inner)


def demand_reason(case):
    """A skip that does not say why is a failure."""
    if case.verdict == SKIPPED and not case.reason:
        return Case(case.test, case.name, FAILED,
                    'skipped without a reason')
    return case


def whole(run):
    """A program that counts as one."""
    code = run['returncode']
    if junit_path(run['command']):
        return Case(run['name'], '', FAILED,
                    f'left no XML of its cases, exit code {code}')
    if run['result'] == 'OK' and code == 0:
        return Case(run['name'], '', PASSED)
    if code == 77:
        return Case(run['name'], '', SKIPPED, last_line(run))
    return Case(run['name'], '', FAILED,
                f'{run["result"].lower()}, exit code {code}')


def last_line(run):
    text = run.get('stdout') or run.get('stderr') or ''
    lines = [l.strip() for l in text.splitlines() if l.strip()]
    return lines[-1] if lines else ''


# ---- TAP ----------------------------------------------------------------

def from_tap(run):
    """Cases of all plans in the output; [] when there is no plan."""
    test, found = run['name'], []
    plan, seen, said = 0, {}, ''

    def close():
        for n in range(1, plan + 1):
            found.append(seen.get(n) or Case(
                test, f'case {n} of {plan}', FAILED, 'was never run'))

    for line in (run.get('stdout') or '').splitlines():
        start, case = TAP_PLAN.match(line), TAP_CASE.match(line)
        if start:
            # A forked child may print its parent's buffer once more.
            if int(start[1]) == plan and len(seen) < plan:
                continue
            close()
            plan, seen = int(start[1]), {}
        elif case and plan:
            seen.setdefault(int(case[2]), tap_case(test, case, said))
            said = ''
        elif line.strip() and not line.startswith('#'):
            said = line.strip()
    close()
    return found


def tap_case(test, match, said):
    """said: what the program printed before; a skip's reason, mostly."""
    skip = TAP_SKIP.search(match[3])
    if not skip:
        verdict = PASSED if match[1] == 'ok' else FAILED
        return Case(test, match[3], verdict)
    # cmocka: "not ok 2 # SKIP name"; TAP proper: "ok 2 - name # SKIP why".
    before = match[3][:skip.start()].strip()
    if before:
        return Case(test, before, SKIPPED, skip[1] or said)
    return Case(test, skip[1], SKIPPED, said)


# ---- pytest -------------------------------------------------------------

def junit_path(command):
    for word, after in zip(command, command[1:] + ['']):
        if word == '--junitxml':
            return Path(after)
        if word.startswith('--junitxml='):
            return Path(word.split('=', 1)[1])
    return None


def from_junit(run):
    """Cases of the run's XML file; [] when it wrote none."""
    path = junit_path(run['command'])
    if not path or not path.exists():
        return []
    if path.stat().st_mtime < run['starttime'] - 1:
        return []               # an older run's
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError:
        return []
    return [junit_case(run['name'], e) for e in root.iter('testcase')]


def junit_case(test, element):
    name = element.get('name', '')
    for kind in ('error', 'failure'):
        found = element.find(kind)
        if found is not None:
            text = (found.get('message') or kind).strip().splitlines()
            return Case(test, name, FAILED, text[0] if text else kind)
    skip = element.find('skipped')
    if skip is not None:
        return Case(test, name, SKIPPED, skip.get('message', ''))
    return Case(test, name, PASSED)
