"""Who writes a folder, and what can be done about it: only what is true where it is read."""

import json
import os

import pytest

from opcd_bench.errors import StoreError
from opcd_bench.store import files
from opcd_bench.store.files import LOCK
from opcd_bench.store.lease import Lease


@pytest.fixture
def holder(tmp_path):
    """Makes the message for a lock that is held by whom the file says."""
    lock = Lease(tmp_path / LOCK)
    here = json.loads((tmp_path / LOCK).read_text())

    def told(**changed):
        (tmp_path / LOCK).write_text(json.dumps(here | changed))
        with pytest.raises(StoreError) as refused:
            Lease(tmp_path / LOCK)
        return str(refused.value)

    yield told
    lock.release()


def test_a_lock_says_which_process_where_holds_it(tmp_path):
    with Lease(tmp_path / LOCK):
        told = json.loads((tmp_path / LOCK).read_text())
    assert told == {**files._here(), "pid": os.getpid()}
    assert told["host"] and told["namespace"].startswith("pid:[")
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_is_seen_from_here_may_be_stopped_by_its_number(holder):
    assert f"stop it with: kill {os.getpid()}" in holder()


def test_the_first_process_of_a_container_is_not_to_be_killed(holder):
    told = holder(pid=1)
    assert "process 1 is writing" in told and "kill" not in told


def test_a_holder_in_another_container_is_never_killed_by_its_number_there(holder):
    told = holder(pid=1, namespace="pid:[1]", host="box")
    assert "another container of this machine (its name there: box)" in told and "kill" not in told


def test_a_holder_on_another_machine_is_never_killed_by_its_number_there(holder):
    told = holder(boot="another", namespace="pid:[1]", host="node7")
    assert "process" in told and "on node7" in told and "kill" not in told


def test_a_holder_that_is_gone_or_that_nothing_is_known_of_is_no_number(holder, tmp_path):
    assert "kill" not in holder(pid=2**22 + 1)
    for text in ("1", "", "{}", "[1]", "\x1b[2J"):
        (tmp_path / LOCK).write_text(text)
        with pytest.raises(StoreError, match="another process is writing") as refused:
            Lease(tmp_path / LOCK)
        assert "kill" not in str(refused.value) and "\x1b" not in str(refused.value)
