"""Who writes a folder, and what can be done about it: only what is true where it is read."""

import json
import os
import threading

import pytest

from opcd_bench.errors import StoreError
from opcd_bench.store import lease_file, machine
from opcd_bench.store.files import LOCK
from opcd_bench.store.lease import Lease


@pytest.fixture
def holder(tmp_path):
    """Makes the message for a lease that is held, and kept up, by whom the file says."""
    path, lease = tmp_path / LOCK, Lease(tmp_path / LOCK)
    here, done = json.loads(path.read_text()), threading.Event()

    def keep_up(said):
        beat = 0
        while not done.wait(0.02):
            beat += 1
            (tmp_path / "next").write_text(said(beat))
            os.replace(tmp_path / "next", path)

    def told(text=None, **changed):
        def said(beat):
            return (
                json.dumps(here | changed | {"beat": beat}) if text is None else text + " " * beat
            )

        done.clear()
        path.write_text(said(0))
        thread = threading.Thread(target=keep_up, args=(said,))
        thread.start()
        try:
            with pytest.raises(StoreError) as refused:
                Lease(path)
        finally:
            done.set()
            thread.join()
        return str(refused.value)

    yield told
    lease.release()


def test_a_lease_says_which_process_where_holds_it(tmp_path):
    with Lease(tmp_path / LOCK):
        told = json.loads((tmp_path / LOCK).read_text())
    assert {name: told.pop(name) for name in ("host", "boot", "namespace")} == machine.here()
    assert told.pop("pid") == os.getpid() and told.pop("start") == machine.this().start
    assert told.pop("beat") == "0000000000" and len(told.pop("token")) == 16
    assert told.pop("taken").endswith("+00:00") and told == {}
    assert machine.here()["host"] and machine.here()["namespace"].startswith("pid:[")
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_is_seen_from_here_may_be_stopped_by_its_number(holder):
    assert f"stop it with: kill {os.getpid()}" in holder()


def test_the_message_says_since_when(holder):
    assert "now, since 2026-01-02T03:04:05+00:00; wait" in holder(taken="2026-01-02T03:04:05+00:00")


def test_the_first_process_of_a_container_is_not_to_be_killed(holder):
    told = holder(pid=1, start=None)
    assert "process 1 is writing" in told and "kill" not in told


def test_a_holder_in_another_container_is_never_killed_by_its_number_there(holder):
    told = holder(pid=1, namespace="pid:[1]", host="box")
    assert "another container of this machine (its name there: box)" in told and "kill" not in told


def test_a_holder_on_another_machine_is_never_killed_by_its_number_there(holder):
    told = holder(boot="another", namespace="pid:[1]", host="node7")
    assert "process" in told and "on node7" in told and "kill" not in told


def test_a_holder_that_nothing_is_known_of_is_no_number(holder):
    for text in ("1", "", "{}", "[1]", "\x1b[2J", '{"pid": -1}'):
        refused = holder(text)
        assert "another process is writing" in refused
        assert "kill" not in refused and "\x1b" not in refused


def test_a_holder_that_is_gone_is_no_number_and_its_lease_is_free_at_once(tmp_path):
    with Lease(tmp_path / LOCK):
        told = json.loads((tmp_path / LOCK).read_text()) | {"pid": 2**22 + 1}
        assert "kill" not in lease_file.words(lease_file.parse(json.dumps(told).encode()))
        (tmp_path / LOCK).write_text(json.dumps(told))
        with Lease(tmp_path / LOCK) as mine:
            mine.check()


def test_a_lock_of_an_older_version_is_free_once_its_process_is_gone_and_not_before(tmp_path):
    (tmp_path / LOCK).write_text(json.dumps(machine.here() | {"pid": os.getpid()}))
    with pytest.raises(StoreError, match=f"kill {os.getpid()}"):
        Lease(tmp_path / LOCK)
    (tmp_path / LOCK).write_text(json.dumps(machine.here() | {"pid": 2**22 + 1}))
    with Lease(tmp_path / LOCK) as mine:
        mine.check()
