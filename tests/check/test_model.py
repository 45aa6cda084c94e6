# SPDX-License-Identifier: MIT
"""docs/model: spin finds no fault in the model, and one in each mutant of it;
its transitions are those of src/mig/states.c."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
MODEL = SOURCE / 'docs/model/ferry.pml'
TEXT = MODEL.read_text(encoding='utf-8')
STATES = (SOURCE / 'src/mig/states.c').read_text(encoding='utf-8')
LIMIT_S = int(os.environ.get('FERRY_MODEL_LIMIT_S', '400'))



def sizes(variable, usual):
    """How often the link breaks, how many sides die; scripts/soak has more."""
    return [tuple(int(n) for n in size.split(','))
            for size in os.environ.get(variable, usual).split()]


SIZES = sizes('FERRY_MODEL_SIZES', '2,0 1,1')
CYCLES = sizes('FERRY_MODEL_CYCLES', '0,1')
LEASES = sizes('FERRY_MODEL_LEASES', '1,0')
MUTANTS = sorted(set(re.findall(r'MUTANT_(\w+)', TEXT)))

# What the code does and the model does not, with the reason.
NOT_MODELLED = {
    ('T', 'POSTCOPY_PAUSED', 'POSTCOPY_RECOVER'):
        'park: a QEMU comes back, which has no session id',
}


def moves():
    return re.findall(r'move\(([ST]), (\w+), (\w+)\)', TEXT)


def rows():
    return re.findall(r'\{ ([ST]), AT\((\w+)\), AT\((\w+)\)', STATES)


class Checked:
    """The model, built with some definitions and searched: for what must not
    be, or for runs without an end."""

    def __init__(self, folder, cuts, deaths, mutant=None, cycles=False,
                 lease=False):
        folder.mkdir(parents=True)
        definitions = [f'-DCUTS={cuts}', f'-DDEATHS={deaths}']
        if lease:
            definitions.append('-DLEASE')
        if mutant:
            definitions.append(f'-DMUTANT_{mutant}')
        self.said = ''.join(self.run(folder, command) for command in (
            ['spin', '-a', *definitions, MODEL],
            ['gcc', '-w', '-DNP' if cycles else '-DSAFETY', '-DNOREDUCE',
             '-DCOLLAPSE', '-DMEMLIM=8000', '-o', 'pan', 'pan.c'],
            ['./pan', '-E', '-m400000', *(['-l'] if cycles else [])]))
        for file in folder.iterdir():
            file.unlink()

    @staticmethod
    def run(folder, command):
        done = subprocess.run(command, cwd=folder, text=True, check=False,
                              stdout=subprocess.PIPE, timeout=LIMIT_S,
                              stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout[-2000:]
        return done.stdout

    def errors(self):
        return int(re.search(r'errors: (\d+)', self.said).group(1))

    def verdict(self):
        """What pan says, without the lists that follow."""
        return self.said.split('unreached in')[0][-2000:]

    def lines_never_reached(self):
        return {int(n) for n in
                re.findall(rf'{MODEL.name}:(\d+), state', self.said)}


@pytest.fixture(scope='module')
def checked(tmp_path_factory):
    """{size or mutant: Checked}; two at a time."""
    if not shutil.which('spin'):
        pytest.skip('spin is not installed (scripts/setup)')
    folder = tmp_path_factory.mktemp('model')
    jobs = {size: (folder / f'{size[0]}-{size[1]}', *size)
            for size in SIZES}
    jobs['cycles'] = (folder / 'cycles', *CYCLES[0], None, True)
    jobs |= {('lease', *size): (folder / f'lease-{size[0]}-{size[1]}', *size,
                               None, False, True) for size in LEASES}
    jobs |= {m: (folder / m, 1, 0, m, False, m.startswith('lease'))
             for m in MUTANTS}
    with ThreadPoolExecutor(2) as pool:
        running = {name: pool.submit(Checked, *job)
                   for name, job in jobs.items()}
    return {name: job.result() for name, job in running.items()}


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_spin_finds_nothing(checked, size):
    assert checked[size].errors() == 0, checked[size].verdict()
    assert 'Search not completed' not in checked[size].said
    assert 'max search depth too small' not in checked[size].said


@pytest.mark.parametrize('size', LEASES, ids=str)
def test_spin_finds_nothing_under_a_lease(checked, size):
    lease = checked['lease', *size]
    assert lease.errors() == 0, lease.verdict()
    assert 'Search not completed' not in lease.said
    assert 'max search depth too small' not in lease.said


def test_a_rollback_happens_and_is_told(checked):
    never = checked['lease', *LEASES[0]].lines_never_reached()
    lines = TEXT.splitlines()
    for what in 'move(S, POSTCOPY_PAUSED, FAILED)', 'toward[tl]?VOID':
        at = {n for n, line in enumerate(lines, 1) if what in line}
        assert at and not at & never, what


@pytest.mark.parametrize('mutant', MUTANTS)
def test_spin_finds_the_error(checked, mutant):
    assert checked[mutant].errors() == 1, checked[mutant].verdict()
    assert 'assertion violated' in checked[mutant].said


def test_every_run_has_an_end(checked):
    assert 'non-progress cycles' in checked['cycles'].said
    assert checked['cycles'].errors() == 0, checked['cycles'].verdict()


def test_the_mutants_are_there():
    assert len(MUTANTS) > 10


def test_every_transition_of_the_model_happens(checked):
    never = set.intersection(*(checked[size].lines_never_reached()
                               for size in SIZES))
    lines = TEXT.splitlines()
    assert not [lines[n - 1] for n in never if 'move(' in lines[n - 1]]


def test_the_code_allows_what_the_model_does():
    assert set(moves()) - set(rows()) == set()


def test_the_model_does_what_the_code_allows():
    assert set(rows()) - set(moves()) == set(NOT_MODELLED)


def test_both_lists_were_read():
    by_name = STATES.count('\n\t{ S, ') + STATES.count('\n\t{ T, ')
    assert len(rows()) == by_name > 40
    assert len(set(moves())) > 40
