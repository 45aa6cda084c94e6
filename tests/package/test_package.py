# SPDX-License-Identifier: MIT
"""The Debian packages: built, installed above this machine, used, removed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jail import Jail, Unable

SOURCE = Path(os.environ.get('FERRY_SOURCE',
                             Path(__file__).resolve().parents[2]))
PACKAGES = ['libferry0', 'libferry-dev', 'ferry', 'libferry-vhost0',
            'libferry-vhost-dev', 'ferry-vhost']


def project_version():
    text = (SOURCE / 'meson.build').read_text(encoding='utf-8')
    return re.search(r"version : '([\d.]+)'", text)[1]


def pages():
    return sorted(p.name for p in SOURCE.glob('docs/man/*.[1-8]'))


@pytest.fixture(scope='session', name='debs')
def fixture_debs(tmp_path_factory):
    """{package: file}, built by scripts/package as anybody would."""
    for tool in ('dpkg-buildpackage', 'dh'):
        if not shutil.which(tool):
            pytest.skip(f'no {tool}: apt-get install debhelper')
    out = tmp_path_factory.mktemp('debs')
    done = subprocess.run([SOURCE / 'scripts/package', out], text=True,
                          check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=900)
    assert done.returncode == 0, done.stdout
    return {name: next(out.glob(f'{name}_*.deb')) for name in PACKAGES}


@pytest.fixture(scope='session', name='jail')
def fixture_jail(debs, tmp_path_factory):
    """A layer above this machine in which the packages are installed."""
    try:
        jail = Jail(tmp_path_factory.mktemp('jail'))
    except Unable as why:
        pytest.skip(str(why))
    for deb in debs.values():
        shutil.copy(deb, jail.path('/tmp'))
    # Small systems tell dpkg to leave manual pages and examples out.
    jail.run('dpkg', '--path-include=/usr/share/man/*',
             '--path-include=/usr/share/doc/*', '--install',
             *(f'/tmp/{deb.name}' for deb in debs.values()))
    yield jail
    jail.close()


def files_of(deb):
    listing = subprocess.run(['dpkg-deb', '--fsys-tarfile', deb], check=True,
                             stdout=subprocess.PIPE).stdout
    names = subprocess.run(['tar', '-t'], input=listing, check=True,
                           stdout=subprocess.PIPE).stdout.decode()
    return [n[1:] for n in names.splitlines() if not n.endswith('/')]


def test_the_version_is_the_projects():
    for path, pattern in (('debian/changelog', r'^ferry \(([\d.]+)\)'),
                          ('CHANGELOG.md', r'^## ([\d.]+)')):
        text = (SOURCE / path).read_text(encoding='utf-8')
        assert re.search(pattern, text, re.M)[1] == project_version(), path


def test_the_build_needs_what_scripts_packages_says():
    """But what every Debian build has, or what brings it."""
    given = {'gcc', 'libc6-dev', 'ninja-build', 'debhelper-compat'}
    listed = {line.split()[0] for line in
              (SOURCE / 'scripts/packages').read_text().splitlines()
              if line.split()[1:2] == ['build'] and line[0] != '#'}
    control = (SOURCE / 'debian/control').read_text(encoding='utf-8')
    wanted = re.search(r'^Build-Depends:((?:.*\n)(?: .*\n)*)', control,
                       re.M)[1]
    names = {re.match(r'\s*(\S+)', part)[1] for part in wanted.split(',')}
    assert names - given == listed - given


def test_the_packages_are_installed_and_complete(jail):
    shown = jail.run('dpkg-query', '-W', '-f',
                     '${Package} ${Version} ${db:Status-Status}\n',
                     *PACKAGES).stdout
    assert sorted(shown.splitlines()) == sorted(
        f'{name} {project_version()} installed' for name in PACKAGES)
    assert jail.run('dpkg', '--audit', *PACKAGES).stdout == ''


@pytest.mark.parametrize('test', ['embed', 'command'])
def test_what_debian_would_run_passes(jail, test):
    shutil.copy(SOURCE / 'debian/tests' / test, jail.path('/tmp'))
    said = jail.run(f'/tmp/{test}').stdout
    if test == 'embed':
        assert re.search(r'libferry\.so\.0 => (/usr)?/lib/x86_64-linux-gnu/',
                         said)
        assert re.search(r'^target: \d+ steps in all, 0 bad pages', said,
                         re.M)
    else:
        assert said.startswith(f'ferry {project_version()}\n')


@pytest.mark.parametrize('page', pages())
def test_the_page_is_found(jail, page):
    name, section = page.rsplit('.', 1)
    if jail.run('sh', '-c', 'command -v man', check=False).returncode:
        pytest.skip('no man: apt-get install man-db')
    where = jail.run('man', '-w', section, name).stdout.strip()
    assert where == f'/usr/share/man/man{section}/{page}.gz'


def test_the_completion_works_where_it_is_installed(jail):
    said = jail.run(
        'bash', '-c', 'source /usr/share/bash-completion/completions/ferry; '
        'COMP_WORDS=(ferry mig); COMP_CWORD=1; _ferry; '
        'echo "${COMPREPLY[@]}"').stdout
    assert said.split() == ['migrate']


def test_systemd_accepts_the_unit(jail):
    if not shutil.which('systemd-analyze'):
        pytest.skip('no systemd-analyze: apt-get install systemd')
    done = jail.run('systemd-analyze', 'verify', '--man=no',
                    '/lib/systemd/system/ferry@web.service')
    assert done.stdout == ''


def test_what_the_unit_needs_is_there(jail):
    """Without /dev/kvm `systemctl start` must fail, not skip."""
    assert os.path.isdir(jail.path('/etc/ferry'))
    unit = Path(jail.path('/lib/systemd/system/ferry@.service')).read_text(
        encoding='utf-8')
    assert 'AssertPathExists=/dev/kvm\n' in unit
    assert '\nCondition' not in unit


def test_readmes_links_lead_somewhere(jail):
    readme = Path(jail.path('/usr/share/doc/ferry/README.md')).read_text(
        encoding='utf-8')
    links = set(re.findall(r'\]\(([^):#]+)\)', readme))
    assert 'docs/DESIGN.md' in links
    assert [link for link in links if not os.path.exists(
        jail.path(f'/usr/share/doc/ferry/{link}'))] == []


def test_an_upgrade_leaves_running_machines_alone(debs):
    scripts = subprocess.run(
        ['dpkg-deb', '--ctrl-tarfile', debs['ferry']], check=True,
        stdout=subprocess.PIPE).stdout
    for word in (b'deb-systemd-invoke', b'systemctl restart',
                 b'systemctl stop'):
        assert word not in scripts


def test_removal_leaves_nothing(jail, debs):
    jail.run('dpkg', '--purge', *PACKAGES)
    left = [f for deb in debs.values() for f in files_of(deb)
            if os.path.lexists(jail.path(f)) and not os.path.lexists(f)]
    assert left == []
