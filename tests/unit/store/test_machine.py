"""Which process is which: a number that was given again is not the former one's."""

import dataclasses
import os
import subprocess
import sys

import pytest

from opcd_bench.store import machine


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def process_of(child):
    return dataclasses.replace(machine.this(), pid=child.pid, start=machine._stat(child.pid)[1])


def test_a_process_runs_until_it_is_killed_whether_its_parent_has_looked_or_not(child):
    one = process_of(child)
    assert one.is_seen and not one.has_ended and not machine.this().has_ended
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert one.has_ended
    child.wait()
    assert one.has_ended


def test_another_process_of_the_same_number_is_another(child):
    one = process_of(child)
    assert dataclasses.replace(one, start=one.start - 1).has_ended
    assert not dataclasses.replace(one, start=None).has_ended


@pytest.mark.parametrize("changed", [{"host": "b"}, {"boot": "b"}, {"namespace": "pid:[1]"}])
def test_of_a_process_elsewhere_nothing_is_known(changed):
    one = dataclasses.replace(machine.this(), pid=2**22 + 1, **changed)
    assert not one.is_seen and not one.has_ended


def test_without_a_boot_nothing_is_known(monkeypatch):
    place = {"host": "a", "boot": None, "namespace": None}
    monkeypatch.setattr(machine, "here", lambda: place)
    assert not dataclasses.replace(machine.this(), pid=2**22 + 1).has_ended


def test_the_clock_is_nobodys_to_set(monkeypatch):
    before = machine.seconds()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 0 <= machine.seconds() - before < 60


def test_machines_have_keys_of_their_own(monkeypatch):
    own = machine.key()
    assert len(own) == 4 and own == machine.key() and int(own, 16) >= 0
    monkeypatch.setattr(machine, "here", lambda: {"host": "b", "boot": "b", "namespace": None})
    assert machine.key() != own
