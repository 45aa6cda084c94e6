# SPDX-License-Identifier: MIT
"""The command's help is the truth; manual page and completion follow it."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
FERRY = Path(os.environ.get('FERRY', SOURCE / 'build/ferry'))

# Sets up what bash would, and prints what it would offer.
COMPLETE = '''
source "$1/tools/ferry.bash"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_ferry
printf '%s\\n' "${COMPREPLY[@]}"
'''


def help_of(*command):
    return subprocess.run([FERRY, *command, '--help'], text=True, check=True,
                          stdout=subprocess.PIPE).stdout


def commands():
    return re.findall(r'^  ([a-z][a-z-]*)  ', help_of(), re.M)


def letters(command):
    """{(letter, option)} of the command's help."""
    found = re.findall(r'^ {2}(?:-(.), | {4})--([a-z-]+)', help_of(command),
                       re.M)
    return {(a, b) for a, b in found if b not in ('help', 'usage')}


def options(command):
    return {name for _, name in letters(command)}


def completions(*words, env=None):
    done = subprocess.run(
        ['bash', '-c', COMPLETE, 'bash', SOURCE, FERRY, *words], text=True,
        stdout=subprocess.PIPE, check=True, env=env)
    return set(done.stdout.split())


def manual(name):
    return (SOURCE / f'docs/man/{name}.1').read_text(encoding='utf-8')


@pytest.mark.parametrize('command', commands())
def test_help_of_a_command_is_its_help(command):
    done = subprocess.run([FERRY, 'help', command], text=True, check=True,
                          stdout=subprocess.PIPE)
    assert done.stdout == help_of(command)


@pytest.mark.parametrize('command', ['help', *commands()])
def test_help_that_cannot_be_written_is_no_success(command):
    with open('/dev/full', 'w', encoding='utf-8') as full:
        done = subprocess.run([FERRY, command, '--help'], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert 'No space left on device' in done.stderr


@pytest.mark.parametrize('wrong, meant', [
    ('migarte', 'migrate'), ('stauts', 'status'), ('lst', 'list'),
    ('docter', 'doctor'), ('cancell', 'cancel'), ('x', None),
    ('teleport', None), ('sotpcnot', None)])
def test_a_near_miss_gets_a_suggestion(wrong, meant):
    for words in [wrong], ['help', wrong]:
        done = subprocess.run([FERRY, *words], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (2, '')
        assert f"no command '{wrong}'" in done.stderr
        assert (f"is it '{meant}'?" in done.stderr) == (meant is not None)


def test_there_are_commands_and_options():
    assert 'migrate' in commands()
    assert 'max-pause' in options('migrate')


@pytest.mark.parametrize('command', commands())
def test_the_page_has_the_options_of_the_command(command):
    shown = re.findall(r'^\.It Fl (.) , Fl \\-([a-z-]+)',
                       manual(f'ferry-{command}'), re.M)
    # One that is to be typed out has no letter.
    shown += [('', name) for name in re.findall(
        r'^\.It Fl \\-([a-z-]+)$', manual(f'ferry-{command}'), re.M)]
    assert set(shown) == letters(command)


@pytest.mark.parametrize('command', commands())
def test_the_page_uses_no_option_that_is_not(command):
    everywhere = set().union(*(options(c) for c in commands()))
    used = re.findall(r'(?:Fl \\-|\s--)([a-z][a-z-]+)',
                      manual(f'ferry-{command}'))
    assert set(used) - everywhere == set()


def test_each_page_is_of_a_command():
    pages = {p.stem for p in SOURCE.glob('docs/man/*.1')}
    others = {'ferry-vhost-blk', 'ferry-vhost-net'}
    assert pages == {'ferry'} | {f'ferry-{c}' for c in commands()} | others


def test_the_overview_lists_the_commands_and_the_exit_codes():
    page = manual('ferry')
    assert re.findall(r'^\.It Cm ([a-z-]+)\n', page, re.M) == commands()
    assert (re.findall(r'^\.It (\d)$', page, re.M) ==
            re.findall(r'^  (\d)  ', help_of(), re.M))


def test_completion_offers_the_commands():
    assert completions('') == set(commands())
    assert completions('st') == {c for c in commands()
                                 if c.startswith('st')}


@pytest.mark.parametrize('command', commands())
def test_completion_offers_the_options(command):
    offered = {o.strip('-=') for o in completions(command, '--')}
    assert offered - {'help', 'usage'} == options(command)


def test_completion_offers_the_parameters_and_their_values():
    """Bash makes words of --set, =, NAME, =, VALUE."""
    shown = subprocess.run([FERRY, 'params', '--json'], text=True,
                           check=True, stdout=subprocess.PIPE).stdout
    table = {row['name']: row for row in json.loads(shown)}
    offered = completions('migrate', '--set', '')
    assert offered == {f'{name}=' for name in table}
    assert completions('migrate', '--set', '=', 'x-ferry-pu') == {
        'x-ferry-push-order='}
    for name, row in table.items():
        assert (completions('run', '--set', name, '=', '') ==
                set(row.get('values', []))), name
    assert completions('migrate', '--set', '=', 'postcopy-ram', '=',
                       'o') == {'on', 'off'}


def test_completion_offers_the_machines_that_run(tmp_path):
    """A socket is enough to be listed, though nobody answers."""
    env = os.environ | {'FERRY_RUNTIME_DIR': str(tmp_path)}
    for name in ('web', 'web2', 'db'):
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(tmp_path / f'{name}.qmp'))
    assert completions('migrate', 'w', env=env) == {'web', 'web2'}
    assert completions('quit', '', env=env) == {'web', 'web2', 'db'}
    assert completions('run', '--name', '', env=env) == set()
    # Where a VM stands, and nowhere else.
    assert completions('status', 'web', '', env=env) == set()
    assert 'web2' in completions('migrate', 'web', '', env=env)
    assert completions('migrate', 'web', 'web2', 'w', env=env) == set()
    for before in (['--json'], ['--limit', '100M'], ['-l', '100M'],
                   ['--limit', '=', '100M'],
                   ['--set', 'max-bandwidth', '=', '9']):
        assert completions('migrate', *before, '', env=env) == {
            'web', 'web2', 'db'}, before


def test_completion_of_help():
    assert completions('help', 'mig') == {'migrate'}


@pytest.mark.parametrize('word', ['tcp:', 'unix:', 'file:'])
def test_completion_offers_kinds_of_addresses(word):
    assert word in completions('migrate', 'web', '')
    assert word in completions('run', '--incoming', '')


def test_the_page_lists_the_parameters():
    shown = subprocess.run([FERRY, 'params'], text=True, check=True,
                           stdout=subprocess.PIPE).stdout
    # This one depends on the machine; the page says how, and has a small one's.
    shown = re.sub(r'^multifd-channels=[1-8]$', 'multifd-channels=1', shown,
                   flags=re.M)
    lines = [line.strip() for line in shown.splitlines()]
    page = manual('ferry-params').split('.Sh PARAMETERS')[1]
    assert [line for row in re.findall(r'^\.It Li (.*)\n(.*)\n\.br\n(.*)$',
                                       page, re.M) for line in row] == lines


@pytest.mark.parametrize('option', ['--max-pause', '--by'])
def test_a_time_without_unit_is_said_to_be_milliseconds(option):
    text = ' '.join(help_of('migrate').split())
    said = re.search(rf'{option}=TIME (.*?) (?:-\S, )?--', text)[1]
    assert 'plain numbers are ms' in said
    page = manual('ferry-migrate').replace('\\-', '-')
    assert 'A number without a unit counts milliseconds' in page
