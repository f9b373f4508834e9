"""A lease: whoever its file names has it, whatever the clocks say and whoever was away."""

import errno
import gc
import json
import os
import threading
import time
from pathlib import Path

import pytest

from opcd_bench import preemption
from opcd_bench.errors import LeaseLost, StoreError
from opcd_bench.store import files, heartbeat, lease, lease_file, machine
from opcd_bench.store.files import LOCK, NEXT, remove_temporaries, temporary_beside
from opcd_bench.store.lease import Lease
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir

AWAY = {"host": "node7", "boot": "another", "namespace": "pid:[7]"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "STALE", 0.5)
    monkeypatch.setattr(lease, "SAID_AFTER", 0.2)
    monkeypatch.setattr(lease, "LONGEST", 0.05)
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / LOCK


@pytest.fixture
def leaving(monkeypatch):
    """This process is being taken off its node."""
    monkeypatch.setattr(preemption, "_LEAVING", [True])


def put_foreign(path, token="theirs", **changed):
    """A lease's file of a process that cannot be seen from here."""
    told = json.loads(lease_file.text(token)) | AWAY | {"pid": 12} | changed
    beat = told.pop("beat")
    path.write_text(f'{{"beat": "{beat}", {json.dumps(told)[1:]}')
    return path


def names(folder):
    return sorted(one.name for one in folder.iterdir())


# Taking -------------------------------------------------------------------------------------------


def test_it_is_one_process_s_until_it_is_released(path):
    mine = Lease(path)
    with pytest.raises(StoreError, match=f"process {os.getpid()} is writing this folder now"):
        Lease(path)
    mine.check()
    mine.release()
    mine.release()
    assert names(path.parent) == []
    with Lease(path):
        pass
    with pytest.raises(RuntimeError):
        mine.check()


def test_one_that_waits_gets_it_when_it_is_released(path):
    mine, got = Lease(path), threading.Event()

    def queue():
        with Lease(path, wait=True):
            got.set()

    thread = threading.Thread(target=queue)
    thread.start()
    assert not got.wait(1.0), "it beats, so nobody takes it over"
    mine.release()
    thread.join()
    assert got.is_set() and names(path.parent) == []


def test_a_holder_elsewhere_that_gives_a_sign_of_life_is_named_as_soon_as_it_does(path, capfd):
    put_foreign(path, taken="2026-01-02T03:04:05+00:00")
    sign = threading.Timer(0.3, lease_file.beat, (path, "theirs", 1))
    sign.start()
    with pytest.raises(StoreError, match=r"process 12 on node7 .* since 2026-01-02T03:04"):
        Lease(path)
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and f"waiting for {path.parent}: process 12 on node7" in said
    assert "without a sign of life for 0.5 s" in said
    sign.join()


@pytest.mark.parametrize("wait", [False, True])
def test_a_holder_elsewhere_without_a_sign_of_life_is_replaced_after_the_time_and_not_before(
    path, wait
):
    put_foreign(path)
    begun = time.monotonic()
    with Lease(path, wait=wait) as mine:
        assert 0.5 <= time.monotonic() - begun < 5
        mine.check()
        assert lease_file.read(path).process == machine.this()
        assert names(path.parent) == [LOCK]
    assert names(path.parent) == []


def test_what_nobody_knows_the_holder_of_is_replaced_after_the_time(path):
    path.write_text("")  # a kill between the two calls, where there are no links
    with Lease(path) as mine:
        mine.check()


@pytest.mark.parametrize("years", [-40, 40])
def test_clocks_play_no_part(path, monkeypatch, years):
    """Neither the holder's nor ours, nor the times of files."""
    put_foreign(path, taken="1970-01-01T00:00:00+00:00")
    far = time.time() + years * 365 * 86400
    os.utime(path, (far, far))
    monkeypatch.setattr("time.time", lambda: far)
    begun = time.monotonic()
    with Lease(path) as mine:
        assert time.monotonic() - begun >= 0.5
        mine.check()


def test_a_time_in_which_the_waiting_process_was_stopped_proves_nothing(monkeypatch):
    """A laptop that slept: the holder slept too."""
    monkeypatch.setattr(lease, "STALE", 60.0)
    monkeypatch.setattr(lease, "LONGEST", 1.0)
    now = [1000.0]
    monkeypatch.setattr(machine, "seconds", lambda: now[0])
    seen, there = lease._Watch(), lease_file.Named(b"x")
    assert not seen.is_stale(there)
    now[0] += 3600
    assert not seen.is_stale(there) and seen.quiet == 6.0
    for _ in range(53):
        now[0] += 1
        assert not seen.is_stale(there)
    now[0] += 1
    assert seen.is_stale(there)
    assert not seen.is_stale(lease_file.Named(b"y")) and seen.moved


@pytest.mark.parametrize("ours", [True, False])
def test_one_that_died_while_it_took_over_is_in_nobodys_way(path, ours):
    put_foreign(path)
    second = path.with_name(LOCK + NEXT)
    put_foreign(second, "dead", **(machine.here() | {"pid": 2**22 + 1} if ours else {}))
    with Lease(path) as mine:
        mine.check()
        assert names(path.parent) == [LOCK]


def test_a_second_file_that_a_kill_left_beside_a_free_lease_goes(path):
    put_foreign(path.with_name(LOCK + NEXT), **machine.here(), start=1)
    with Lease(path):
        assert names(path.parent) == [LOCK]


def test_a_holder_that_comes_back_while_it_is_taken_over_keeps_it(path, monkeypatch):
    put_foreign(path)
    real = Lease._next_held

    def beaten(self):
        lease_file.beat(path, "theirs", 5)
        return real(self)

    monkeypatch.setattr(Lease, "_next_held", beaten)
    with pytest.raises(StoreError, match="process 12 on node7"):
        Lease(path)
    assert lease_file.read(path).token == "theirs" and names(path.parent) == [LOCK]


def test_without_links_it_is_as_exclusive_as_a_created_file(path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with Lease(path) as mine:
        mine.check()
        with pytest.raises(StoreError, match="is writing"):
            Lease(path)
        mine.check()
    assert names(path.parent) == []
    put_foreign(path)
    with Lease(path) as mine:
        mine.check()
    assert names(path.parent) == []


def test_a_server_that_answers_a_link_twice_gives_it_to_whom_it_gave_it(path, monkeypatch):
    real = os.link

    def twice(source, target):
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists", str(target))

    monkeypatch.setattr(os, "link", twice)
    with Lease(path) as mine:
        mine.check()


def test_a_link_in_its_place_is_refused(path):
    path.symlink_to(path.parent / "elsewhere")
    with pytest.raises(StoreError):
        Lease(path)
    assert names(path.parent) == [LOCK]


# Holding ------------------------------------------------------------------------------------------


def test_a_held_lease_beats_and_a_process_that_holds_none_has_no_thread(path):
    with Lease(path), Lease(path.with_name("another")):
        first = lease_file.read(path).raw
        time.sleep(0.5)
        assert lease_file.read(path).raw != first
        assert len(beating()) == 1
    for _ in range(100):
        if not beating():
            break
        time.sleep(0.02)
    assert not beating()


def beating():
    return [one for one in threading.enumerate() if one.name == "opcd-bench lease"]


def test_one_that_was_forgotten_is_given_back(path):
    mine = Lease(path)
    del mine
    for _ in range(100):  # the thread may just be beating for it
        gc.collect()
        if not path.exists():
            break
        time.sleep(0.02)
    with Lease(path):
        pass


def test_a_holder_that_was_replaced_is_told_by_whom_and_leaves_what_is_the_others(path):
    mine = Lease(path)
    put_foreign(path, taken="2026-01-02T03:04:05+00:00")
    for _ in range(2):
        with pytest.raises(LeaseLost) as lost:
            mine.check()
        said = str(lost.value)
        assert f"{path.parent}: process 12 on node7 took this folder over at 2026-01-02T03" in said
        assert "did not answer for 0.5 s" in said and "Nothing more is written from here" in said
    before = path.read_bytes()
    time.sleep(0.3)
    mine.release()
    assert path.read_bytes() == before


def test_a_release_without_a_check_leaves_what_is_the_others(path):
    mine = Lease(path)
    put_foreign(path)
    mine.release()
    assert lease_file.read(path).token == "theirs"
    mine = None
    gc.collect()
    assert lease_file.read(path).token == "theirs"


def test_a_lease_whose_file_is_gone_is_lost(path):
    with Lease(path) as mine:
        path.unlink()
        with pytest.raises(LeaseLost, match="another process has taken this folder over"):
            mine.check()
    assert names(path.parent) == []


def late(mine, monkeypatch):
    """As after a time in which this process was stopped."""
    monkeypatch.setattr(heartbeat, "BEAT", 1e6)
    mine._last = machine.seconds() - 10


def test_one_that_was_away_and_not_replaced_goes_on_after_a_sign_of_life(path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 1e6)
    with Lease(path) as mine:
        late(mine, monkeypatch)
        before = lease_file.read(path).raw
        mine.check()
        assert lease_file.read(path).raw != before and not mine._is_late()
        assert names(path.parent) == [LOCK]


def test_one_that_was_away_waits_for_whoever_is_just_taking_it_over(path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT", 1e6)
    with Lease(path) as mine:
        late(mine, monkeypatch)
        put_foreign(path.with_name(LOCK + NEXT), "taker")
        before = lease_file.read(path).raw
        thread = threading.Timer(0.2, os.replace, (path.with_name(LOCK + NEXT), path))
        thread.start()
        with pytest.raises(LeaseLost, match="process 12 on node7"):
            mine.check()
        thread.join()
        assert lease_file.read(path).token == "taker" and lease_file.read(path).raw != before


def test_a_release_waits_for_the_sign_of_life_that_is_being_given(path, monkeypatch):
    """So that nothing of it is left in the folder, and nothing of it comes afterwards."""
    monkeypatch.setattr(heartbeat, "BEAT", 1e6)
    mine = Lease(path)
    late(mine, monkeypatch)
    begun, go_on, put = threading.Event(), threading.Event(), lease_file.put

    def slow(where, data):
        begun.set()
        assert go_on.wait(10)
        return put(where, data)

    monkeypatch.setattr(lease_file, "put", slow)
    beat = threading.Thread(target=mine.beat)
    beat.start()
    assert begun.wait(10)
    put_foreign(path)
    release = threading.Thread(target=mine.release)
    release.start()
    release.join(0.1)
    assert release.is_alive()
    go_on.set()
    for thread in (beat, release):
        thread.join(10)
        assert not thread.is_alive()
    assert names(path.parent) == [LOCK] and lease_file.read(path).token == "theirs"
    assert mine.beat() is False and names(path.parent) == [LOCK]


def test_a_forked_child_neither_holds_nor_ends_its_parents_lease(path):
    with Lease(path) as mine:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(RuntimeError):
                    mine.check()
                mine.release()
                with pytest.raises(StoreError, match="is writing"):
                    Lease(path)
                with Lease(path.with_name("own")):
                    assert len(beating()) == 1
                del mine
                gc.collect()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        mine.check()


def test_a_network_that_is_away_is_an_error_that_says_where(path, monkeypatch):
    with Lease(path) as mine, monkeypatch.context() as patch:

        def away(*_):
            raise OSError(errno.EIO, "Input/output error")

        patch.setattr(lease_file, "read", away)
        with pytest.raises(StoreError, match="Input/output error"):
            mine.check()


# What is written ----------------------------------------------------------------------------------


def test_a_run_that_was_taken_over_gets_no_byte_more(tmp_path):
    run = RunDir.open(tmp_path / "run", {"a": 1}, {})
    run.train({"step": 1})
    with run.checkpoint(1) as folder:
        (folder / "state").write_text("x")
    run.samples("dev-step_000001", [{"a": 1}])
    put_foreign(run.path / LOCK)
    before = contents(run.path)

    def checkpoint():
        with run.checkpoint(2):
            pytest.fail("begun")

    for write in (
        lambda: run.train({"step": 2}), lambda: run.eval({"step": 2}),
        lambda: run.timing({"step": 2}), lambda: run.event("x"),
        lambda: run.samples("test", [{}]), lambda: run.drop_samples("dev"),
        lambda: run.rewind(-1), lambda: run.drop_checkpoints(()), checkpoint,
        lambda: run.seal({}), lambda: run.fail("why", "where"),
    ):  # fmt: skip
        with pytest.raises(LeaseLost):
            write()
    run.close()
    assert contents(run.path) == before


def test_a_checkpoint_that_is_taken_over_in_the_middle_is_none_whatever_becomes_of_its_folder(
    tmp_path,
):
    run = RunDir.open(tmp_path / "run", {"a": 1}, {})
    for removed in (False, True):
        with pytest.raises(LeaseLost), run.checkpoint(2) as folder:
            (folder / "state").write_text("x")
            put_foreign(run.path / LOCK)
            if removed:  # as whoever takes it over does
                assert remove_temporaries(run.path / "checkpoints")
                (folder / "more").write_text("y")
        (run.path / LOCK).unlink()
        run._lease = Lease(run.path / LOCK)
    assert run.checkpoints() == [] and names(run.path / "checkpoints") == []


def contents(folder: Path):
    return {str(one): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_suite_and_shared_rows_that_were_taken_over_get_no_byte_more(tmp_path, monkeypatch):
    suite = SuiteDir(tmp_path / "quick")
    suite.merge({"methods": [], "tasks": []})
    real = Lease.check

    def replaced(self):
        put_foreign(self.path)
        real(self)

    for write in (
        lambda: suite.merge({"more": 1}), lambda: suite.put_external("x", b"{}"),
        lambda: suite.enlist(suite.path / "SEALED"),
        lambda: suite.shared("toy", "abc").put("base", [{"a": 1}]),
    ):  # fmt: skip
        before = contents(suite.path)
        with monkeypatch.context() as patch:
            patch.setattr(Lease, "check", replaced)
            with pytest.raises(LeaseLost):
                write()
        locks = list(suite.path.rglob(LOCK))
        assert len(locks) == 1
        locks[0].unlink()
        assert contents(suite.path) == before


# Temporaries of other machines --------------------------------------------------------------------


def test_a_write_of_another_machine_stays_until_it_has_stood_still_for_long(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(machine, "here", lambda: AWAY)
        foreign = temporary_beside(tmp_path / "rows.jsonl")
    foreign.write_text("half")
    assert remove_temporaries(tmp_path) == []
    monkeypatch.setattr("time.time", lambda: 2**40)  # no clock of this machine
    assert remove_temporaries(tmp_path) == []
    now = files.file_system_time(tmp_path)
    os.utime(foreign, (now, now - files.UNCHANGED - 1))
    assert remove_temporaries(tmp_path) == [foreign.name]


def test_a_write_of_this_machine_where_files_know_no_locks_stays_as_long(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", none)
    own = temporary_beside(tmp_path / "rows.jsonl")
    own.write_text("half")
    assert remove_temporaries(tmp_path) == []
    now = files.file_system_time(tmp_path)
    os.utime(own, (now, now - files.UNCHANGED - 1))
    assert remove_temporaries(tmp_path) == [own.name]


# Whom it names, for people ------------------------------------------------------------------------


def test_a_holder_is_read_without_its_lease_being_taken(path):
    assert lease_file.holder(path) is None
    put_foreign(path, taken="2026-01-02T03:04:05+00:00")
    now = files.file_system_time(path.parent)
    os.utime(path, (now - 42, now - 42))
    before = names(path.parent)
    one = lease_file.holder(path)
    assert (one.host, one.pid, one.taken, one.ended) == (
        "node7", 12, "2026-01-02T03:04:05+00:00", False,
    )  # fmt: skip
    assert 42 <= one.quiet < 52 and names(path.parent) == before
    assert lease_file.holder(path, now + 100).quiet == pytest.approx(142, abs=1)
    put_foreign(path, **machine.here())
    assert lease_file.holder(path).ended
    path.write_text("[1]")
    assert lease_file.holder(path) is None


def test_who_is_taken_off_its_node_writes_nothing_more_and_lets_go(tmp_path, request):
    """Whatever caught what stopped the work: a cell is not failed by it, and no score is wrong."""
    run = RunDir.open(tmp_path / "run", {"a": 1}, {})
    run.train({"step": 1})
    before = names(run.path)
    request.getfixturevalue("leaving")
    for write in (lambda: run.fail("timed out", ""), lambda: run.train({"step": 2})):
        with pytest.raises(preemption.Left):
            write()
    assert names(run.path) == before
    run.close()
    assert LOCK not in names(run.path)
