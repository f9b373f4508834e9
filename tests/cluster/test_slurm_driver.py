"""What the driver of a suite on SLURM asks of it and believes of it, without a job that runs."""

import json
import os
import signal
import stat
import time

import fake_slurm
import pytest
from toy import toy_suite

from opcd_bench import preemption
from opcd_bench.errors import StoreError, UserError
from opcd_bench.runner.cluster.jobs import Job, Lost, Outcome
from opcd_bench.runner.cluster.open import opened
from opcd_bench.runner.cluster.work import Work
from opcd_bench.store.files import LOCK
from opcd_bench.store.lease import Lease

submitit = pytest.importorskip("submitit", reason="make test-cluster installs it")
pytestmark = pytest.mark.cluster

JOBS = [Job(kind, kind) for kind in ("prepare", "retention")] + [Job("cell", "toy--a", {"a": 1})]


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The fake SLURM's folder; its jobs wait for ever."""
    folder = tmp_path / "slurm"
    monkeypatch.setenv("PATH", f"{fake_slurm.install(folder)}:{os.environ['PATH']}")
    (folder / "held").touch()
    submitit.SlurmJob.watcher.clear()
    return folder


@pytest.fixture
def drivers(slurm, tmp_path):
    """Makes drivers of one suite, with other settings or options."""
    from opcd_bench.runner.cluster.slurm import Slurm

    def driver(options=None, **values):
        given = {"poll_seconds": 0.01, **(options or {})}
        suite = toy_suite(tmp_path / "model", tmp_path / "results", cluster="slurm",
                          cluster_options=given, **values)  # fmt: skip
        return Slurm(suite, tmp_path / "results" / ".opcd-bench-cluster" / "toy", Work("pool_work"))

    return driver


def queued(slurm):
    """The ids of jobs that wait."""
    return [name for name, state in sorted(fake_slurm.jobs(slurm).items()) if state == "PENDING"]


def test_what_the_same_command_queued_is_found_but_for_the_check(slurm, drivers):
    first = drivers()
    first.submit(JOBS)
    first.close()
    assert queued(slurm) == ["1_0", "1_1", "1_2"]
    drivers({"poll_seconds": 5, "retries": 1}).submit(JOBS)
    assert queued(slurm) == ["1_1", "1_2", "2"] and fake_slurm.jobs(slurm)["1_0"] == "CANCELLED"


@pytest.mark.parametrize("other", [{"max_steps": 8}, {"options": {"partition": "gpu"}}])
def test_what_another_command_queued_under_the_same_names_is_cancelled(slurm, drivers, other):
    first = drivers()
    first.submit(JOBS)
    first.close()
    drivers(**other).submit(JOBS)
    assert queued(slurm) == ["2_0", "2_1", "2_2"]


@pytest.mark.parametrize(
    "more",
    [
        {"seeds": 3},
        {"methods": "opcd_full,sft_context"},
        {"learning_rate": [1e-4, 1e-3], "headline_learning_rate": "dev", "sweep_seeds": 1},
    ],
)
def test_a_suite_to_which_something_is_added_finds_its_cells(slurm, drivers, more):
    first = drivers()
    first.submit(JOBS)
    first.close()
    drivers(**more).submit(JOBS)
    assert queued(slurm) == ["1_2", "2_0", "2_1"], "what cells share depends on the grid"


@pytest.mark.parametrize(
    "other",
    [
        {"options": {"workers": 8}},
        {"summary": "in other words"},
        {"claims": [{"text": "It learns.", "first": "opcd_full on toy"}]},
    ],
)
def test_what_changes_no_job_leaves_what_is_queued(slurm, drivers, other):
    first = drivers()
    first.submit(JOBS)
    first.close()
    drivers(**other).submit(JOBS)
    assert queued(slurm) == ["1_1", "1_2", "2"]


def test_the_jobs_of_a_driver_that_lives_are_left_to_it(slurm, drivers):
    alive = drivers()
    alive.submit(JOBS)
    drivers(max_steps=8).submit(JOBS)
    assert queued(slurm) == ["1_0", "1_1", "1_2", "2_0", "2_1", "2_2"]
    alive.close()


@pytest.mark.parametrize("caught", [Outcome("toy--a", None), Outcome("toy--a", "SystemExit: -1")])
def test_a_job_that_is_requeued_leaves_no_result(slurm, drivers, monkeypatch, tmp_path, caught):
    """Whoever catches the SystemExit that submitit ends it with: SLURM runs it once more."""
    from submitit.core.submission import process_job

    from opcd_bench.runner.cluster import slurm as module

    driver = drivers()
    driver.submit(JOBS[2:])
    ((_, one),) = driver._running.values()
    monkeypatch.setattr(preemption, "_LEAVING", [])
    given = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": one.job_id, "SLURM_PROCID": "0"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    def work(parcel):
        assert parcel.job == JOBS[2]
        handler = signal.getsignal(signal.SIGUSR2)
        try:
            handler(signal.SIGUSR2, None)
        except SystemExit:
            return caught

    monkeypatch.setattr(module, "elsewhere", work)
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)}
    try:
        with pytest.raises(preemption.Left):
            process_job(driver.folder)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (slurm / one.job_id / "requeued").is_file()
    assert not one.paths.result_pickle.exists()


def test_nobody_else_reads_what_jobs_were_given(drivers):
    assert stat.S_IMODE(drivers().folder.stat().st_mode) == 0o700


def test_each_user_has_a_folder_in_which_nobody_else_has_to_write(slurm, tmp_path, monkeypatch):
    """What the first makes in a shared folder of results belongs to the first."""
    suite = toy_suite(tmp_path / "model", tmp_path / "results", cluster="slurm")
    folders = []
    for user in (1001, 1002):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        with opened(suite, tmp_path / "results" / "toy", 0, Work("pool_work")) as driver:
            folders.append(driver.folder)
    names = [folder.relative_to(tmp_path / "results").parts for folder in folders]
    assert names == [(f".opcd-bench-cluster-{user}", "toy") for user in (1001, 1002)]


def test_a_folder_of_results_that_cannot_be_written_is_one_message(slurm, tmp_path):
    (tmp_path / "results").touch()
    suite = toy_suite(tmp_path / "model", tmp_path / "results", cluster="slurm")
    with (
        pytest.raises(StoreError, match="--output-dir"),
        opened(suite, tmp_path / "results" / "toy", 0, Work("pool_work")),
    ):
        pass


def forgotten(slurm, name):
    """SLURM does not know a job any more, and nothing is told of it."""
    (slurm / name / "state").write_text("GONE")


def ends(driver, looks):
    """How jobs ended within so many looks."""
    found = []
    for _ in range(looks):
        time.sleep(0.01)
        found += driver.ended(0)
    return found


def test_a_job_that_slurm_forgot_is_lost_and_given_out_again(slurm, drivers):
    (slurm / "no-accounting").touch()
    driver = drivers()
    driver.submit(JOBS)
    assert ends(driver, 5) == [], "what waits in the queue is there"
    forgotten(slurm, "1_2")
    assert ends(driver, 2) == []
    ((job, end),) = ends(driver, 2)
    assert job == JOBS[2] and isinstance(end, Lost) and "does not know the job" in end.why
    driver.submit([job])
    assert queued(slurm) == ["1_0", "1_1", "2"] and ends(driver, 5) == []


@pytest.mark.parametrize(
    "state",
    ["SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "PREEMPTED", "STOPPED"],
)
def test_a_job_is_not_lost_while_slurm_has_it(slurm, drivers, monkeypatch, state):
    """Whatever its state, its partition, and what the user has set for squeue."""
    (slurm / "hidden").touch()
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    driver = drivers()
    driver.submit(JOBS)
    assert ends(driver, 5) == []
    (slurm / "1_2" / "state").write_text(state)
    assert ends(driver, 6) == []
    driver.close()
    drivers().submit(JOBS)
    assert fake_slurm.jobs(slurm)["1_2"] == state and "2_1" not in fake_slurm.jobs(slurm)


def test_a_job_that_slurms_queue_has_never_shown_is_not_missed(slurm, drivers):
    """A cluster may list no jobs at all; accounts say how they end."""
    squeue = (slurm / "bin" / "squeue").read_text()
    (slurm / "bin" / "squeue").write_text("#!/bin/sh\nexit 0\n")
    driver = drivers()
    driver.submit(JOBS)
    assert ends(driver, 6) == []
    (slurm / "1_2" / "state").write_text("FAILED")
    ((job, end),) = ends(driver, 2)
    assert job == JOBS[2] and end == Lost("it left no result (state: FAILED)")
    (slurm / "bin" / "squeue").write_text(squeue)
    assert ends(driver, 2) == [], "what it shows now it may forget"
    forgotten(slurm, "1_1")
    assert [job for job, _ in ends(driver, 4)] == [JOBS[1]]


@pytest.mark.parametrize("accounts", [True, False])
def test_a_job_that_ended_at_once_is_lost_at_the_second_look(slurm, drivers, accounts):
    """SLURM's controller knows an ended job for some minutes, where nothing else does."""
    if not accounts:
        (slurm / "no-accounting").touch()
    driver = drivers()
    driver.submit(JOBS)
    (slurm / "1_2" / "state").write_text("OUT_OF_MEMORY")
    assert ends(driver, 1) == []
    assert ends(driver, 1) == [(JOBS[2], Lost("it left no result (state: OUT_OF_MEMORY)"))]


def test_a_result_that_comes_a_moment_after_the_job_ended_counts(slurm, drivers):
    driver = drivers()
    driver.submit(JOBS)
    (slurm / "1_2" / "state").write_text("COMPLETED")
    assert ends(driver, 1) == []
    written(driver, "1_2")
    assert ends(driver, 1) == [(JOBS[2], Outcome("toy--a", None))]


def written(driver, name):
    """A job's result is there."""
    outcome = "success", Outcome("toy--a", None)
    submitit.core.utils.cloudpickle_dump(outcome, driver.folder / f"{name}_0_result.pkl")


def test_a_thousand_cancelled_jobs_are_lost_without_a_wait(slurm, drivers, monkeypatch):
    driver = drivers()
    driver.submit(cells(1000))
    for file in slurm.glob("1_*/state"):
        file.write_text("CANCELLED by 1000")
    monkeypatch.setattr(submitit.SlurmJob, "result", lambda _: pytest.fail("a job is waited for"))
    assert driver.ended(10) == []
    assert {end for _, end in driver.ended(10)} == {Lost("it left no result (state: CANCELLED)")}
    assert driver.ended(10) == []


def test_a_job_that_slurm_forgot_is_awaited_while_somebody_writes_its_folder(
    slurm, drivers, tmp_path
):
    (slurm / "no-accounting").touch()
    driver = drivers()
    driver.submit(JOBS)
    forgotten(slurm, "1_2")
    folder = tmp_path / "results" / "toy" / "toy--a"
    folder.mkdir(parents=True)
    with Lease(folder / LOCK):
        assert ends(driver, 6) == []
    assert [job for job, _ in ends(driver, 3)] == [JOBS[2]]


def test_a_later_driver_does_not_wait_for_a_job_that_slurm_forgot(slurm, drivers):
    (slurm / "no-accounting").touch()
    first = drivers()
    first.submit(JOBS)
    first.close()
    forgotten(slurm, "1_2")
    drivers().submit(JOBS)
    assert queued(slurm) == ["1_1", "2_0", "2_1"]


def test_where_the_queue_cannot_be_asked_no_job_is_lost(slurm, drivers):
    (slurm / "no-accounting").touch()
    driver = drivers()
    driver.submit(JOBS)
    (slurm / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert ends(driver, 6) == []


def cells(count):
    return [Job("cell", f"toy--{number}", {"a": number}) for number in range(count)]


def test_a_wave_is_arrays_of_a_thousand_that_share_the_workers(slurm, drivers):
    drivers({"workers": 7}).submit(cells(2001))
    arrays = [json.loads((slurm / f"submitted-{n}").read_text()).get("array") for n in (1, 2, 3)]
    assert arrays == ["0-999%3", "0-999%2", None]
    assert len(queued(slurm)) == 2001


def test_a_look_lists_the_results_once_and_there_is_one_a_poll(slurm, drivers, monkeypatch):
    driver = drivers({"poll_seconds": 60})
    driver.submit(cells(300))
    monkeypatch.setattr(submitit.SlurmJob, "done", lambda *_: pytest.fail("a look for each job"))
    listed, real = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or real(path))
    assert [driver.ended(0.01) for _ in range(20)] == [[]] * 20
    assert listed == [driver.folder]


def test_what_slurm_does_not_take_is_said_where_nothing_is_queued(slurm, drivers):
    driver = drivers()
    (slurm / "bin" / "sbatch").write_text("#!/bin/sh\necho sbatch: error: QOSMax >&2; exit 1\n")
    with pytest.raises(UserError, match=r"3 jobs were not taken: .*QOSMax.*type the same command"):
        driver.submit(cells(3))
    left = {file.name for file in driver.folder.iterdir()} - {driver._alive.path.name}
    assert left == set(), "nothing is left of jobs that were not taken"


def test_more_jobs_than_a_user_may_have_are_queued_as_there_is_room(slurm, drivers):
    (slurm / "max-submit").write_text("5")
    driver = drivers({"workers": 4})
    driver.submit(cells(12))
    assert len(queued(slurm)) == 5 and ends(driver, 2) == []
    for file in sorted(slurm.glob("*/state"))[:2]:
        file.write_text("COMPLETED")
        written(driver, file.parent.name)
    assert len(ends(driver, 2)) == 2
    assert len(queued(slurm)) == 5, "two more"
    done = 2
    while waiting := queued(slurm):
        (slurm / waiting[0] / "state").write_text("COMPLETED")
        written(driver, waiting[0])
        done += len(ends(driver, 1))
        assert len(queued(slurm)) == min(5, 12 - done)
    assert done == 12
    rows = [json.loads(line)["job"] for line in (driver.folder / "jobs.jsonl").open()]
    assert sorted(rows) == sorted(job.name for job in cells(12)), "each was queued once"


def test_a_later_driver_goes_on_where_there_was_no_room(slurm, drivers):
    (slurm / "max-submit").write_text("2")
    first = drivers()
    first.submit(cells(3))
    first.close()
    later = drivers()
    later.submit(cells(3))
    assert len(queued(slurm)) == 2
    (slurm / queued(slurm)[0] / "state").write_text("CANCELLED")
    ((job, end),) = ends(later, 3)
    assert job == cells(1)[0] and isinstance(end, Lost)
    assert len(queued(slurm)) == 2


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["submission_file", "submitted_pickle"])
def test_what_sbatch_took_is_in_the_journal_though_its_files_cannot_be_moved(
    slurm, drivers, monkeypatch, count, name
):
    paths = submitit.core.utils.JobPaths
    moved = paths.move_temporary_file

    def moves(self, path, what, **words):
        if what == name:
            raise OSError("Stale file handle")
        moved(self, path, what, **words)

    monkeypatch.setattr(paths, "move_temporary_file", moves)
    driver = drivers()
    driver.submit(cells(count))
    assert len(queued(slurm)) == count
    rows = [json.loads(line) for line in (driver.folder / "jobs.jsonl").open()]
    assert {row["job"]: row["id"] for row in rows} == {
        job: one.job_id for job, (_, one) in driver._running.items()
    }
    assert [row["id"] for row in rows] == queued(slurm)
    driver.close()
    drivers().submit(cells(count))
    assert len(queued(slurm)) == count, "a later driver finds them"
