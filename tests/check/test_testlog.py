# SPDX-License-Identifier: MIT
"""Counting test results: whatever dies half-way must count as failed."""

import json
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'scripts'))
import testlog  # noqa: E402


def run(stdout='', code=0, result=None, command=('t',), stderr=''):
    return {'name': 't', 'stdout': stdout, 'stderr': stderr,
            'returncode': code, 'command': list(command),
            'starttime': time.time(),
            'result': result or ('OK' if code == 0 else 'FAIL')}


def verdicts(r):
    """'pfs': passed, failed, skipped."""
    return ''.join(c.verdict[0] for c in testlog.cases(r))


PLAN = '1..3\nok 1 - a\n'

COUNTS = [
    ('a plain program', run(), 'p'),
    ('a plain failure', run(code=1), 'f'),
    ('a plain crash', run(code=-11), 'f'),
    ('a plain skip that says why', run('no kvm\n', 77, 'SKIP'), 's'),
    ('a reason on stderr', run('', 77, 'SKIP', stderr='no kvm\n'), 's'),
    ('a skip that does not say why', run('\n', 77, 'SKIP'), 'f'),
    ('a timeout', run('', -15, 'TIMEOUT'), 'f'),
    ('a program that could not start', run('', 127, 'ERROR'), 'f'),
    ('all cases passed', run(PLAN + 'ok 2 - b\nok 3 - c\n'), 'ppp'),
    ('one failed', run(PLAN + 'not ok 2 - b\n# x != y\nok 3 - c\n', 1),
     'pfp'),
    ('a failure and exit code 0 all the same',
     run(PLAN + 'not ok 2 - b\nok 3 - c\n'), 'pfp'),
    ('died in the second', run(PLAN, 134), 'pff'),
    ('ended early with exit code 0', run(PLAN), 'pff'),
    ('a sanitizer at exit', run(PLAN + 'ok 2 - b\nok 3 - c\n', 66), 'pppf'),
    ('time ran out in the second', run(PLAN, -15, 'TIMEOUT'), 'pf'),
    ('a case skipped, with a reason',
     run(PLAN + 'no kvm\nnot ok 2 # SKIP b\nok 3 - c\n'), 'psp'),
    ('a case skipped, without',
     run(PLAN + 'not ok 2 # SKIP b\nok 3 - c\n'), 'pfp'),
    ("another case's words are no reason",
     run('1..3\nno kvm\nok 1 - a\nnot ok 2 # SKIP b\nok 3 - c\n'), 'pfp'),
    ('proper TAP', run(PLAN + 'ok 2 - b # SKIP no kvm\nok 3 - c\n'), 'psp'),
    ('two groups', run('1..1\nok 1 - a\n1..2\nok 1 - b\nok 2 - c\n'), 'ppp'),
    ('the second group dies', run('1..1\nok 1 - a\n1..2\nok 1 - b\n', 139),
     'ppf'),
    ("a child repeats its parent's buffer",
     run(PLAN + PLAN + 'ok 2 - b\nok 3 - c\n'), 'ppp'),
]


@pytest.mark.parametrize('why, result, expected', COUNTS,
                         ids=[c[0] for c in COUNTS])
def test_counts(why, result, expected):
    assert verdicts(result) == expected, why


def test_the_reason_of_a_skip_is_kept():
    case = testlog.cases(run(PLAN + 'no kvm\nnot ok 2 # SKIP b\nok 3 - c\n'))
    assert (case[1].name, case[1].reason) == ('b', 'no kvm')


XML = '''<testsuites><testsuite>
<testcase name="a"/>
<testcase name="b"><failure message="assert 1 == 2">...</failure></testcase>
<testcase name="c"><skipped message="no kvm"/></testcase>
<testcase name="d"><error message=""/></testcase>
<testcase name="e"><skipped/></testcase>
</testsuite></testsuites>'''


def pytest_run(tmp_path, xml, code):
    path = tmp_path / 'x.xml'
    if xml is not None:
        path.write_text(xml)
    return run(code=code, command=('pytest-3', '--junitxml', str(path)))


def test_pytest_cases_are_counted_singly(tmp_path):
    assert verdicts(pytest_run(tmp_path, XML, 1)) == 'pfsff'


@pytest.mark.parametrize('xml, code, expected', [
    (None, 0, 'f'), (None, 4, 'f'), ('<testsuites', 1, 'f'),
    ('<testsuites/>', 5, 'f'),
    ('<testsuites><testcase name="a"/></testsuites>', 3, 'pf'),
])
def test_a_pytest_that_died_has_failed(tmp_path, xml, code, expected):
    assert verdicts(pytest_run(tmp_path, xml, code)) == expected


def test_the_xml_of_an_older_run_does_not_count(tmp_path):
    r = pytest_run(tmp_path, XML, 2)
    r['starttime'] += 3600
    assert verdicts(r) == 'f'


def test_the_name_is_without_project_and_suite(tmp_path):
    log = tmp_path / 'testlog.json'
    log.write_text(json.dumps(run() | {'name': 'ferry:unit / chan-uri'}))
    assert [r['name'] for r, _ in testlog.read(log)] == ['chan-uri']
