"""A suite on SLURM: submitit's own executors, and the whole path on a fake SLURM on PATH."""

import os
import signal
import subprocess
import sys
import time

import fake_slurm
import pytest
from command_line import over
from suites import WORDS, rows

from opcd_bench.store.files import LOCK
from opcd_bench.store.lease import Lease

submitit = pytest.importorskip("submitit", reason="make test-cluster installs it")
pytestmark = pytest.mark.cluster

ENTRY = "from opcd_bench.cli.main import entry; entry()"
QUICKLY = ["--cluster", "slurm", "--cluster-set", "poll_seconds=0.5", "--cluster-set", "cpus=1"]


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return ["--model", str(tiny_model_folder)]


@pytest.fixture(scope="module")
def serial(model, tmp_path_factory):
    """The rows of the suite as one process runs it."""
    folder = tmp_path_factory.mktemp("serial")
    run([*WORDS, *model], folder)
    return rows(folder)


def run(words, folder, *, code=0, more=None):
    """A command line in a process of its own."""
    done = subprocess.run([sys.executable, "-c", ENTRY, *words], cwd=folder, text=True,
                          capture_output=True, timeout=600,
                          env={**os.environ, "CI": "true", **(more or {})})  # fmt: skip
    assert done.returncode == code, done.stderr + done.stdout
    return done


@pytest.fixture
def slurm(tmp_path):
    """The fake SLURM's folder, and the environment in which its commands are found."""
    folder = tmp_path / "slurm"
    commands = fake_slurm.install(folder)
    return folder, {"PATH": f"{commands}:{os.environ['PATH']}"}


def ended(folder):
    """The states of all jobs, a moment later: results are there before processes are gone."""
    for _ in range(100):
        states = set(fake_slurm.jobs(folder).values())
        if "RUNNING" not in states:
            break
        time.sleep(0.1)
    return states


@pytest.mark.parametrize("submit", ["local", "debug"])
def test_submitits_own_executors_write_what_one_process_writes(submit, model, serial, tmp_path):
    told = run([*WORDS, *model, *QUICKLY, "--cluster-set", f"submit={submit}"], tmp_path)
    assert "2 of 2 cells done" in told.stdout
    assert rows(tmp_path) == serial


def test_a_suite_on_slurm_writes_what_one_process_writes(slurm, model, serial, tmp_path):
    folder, environment = slurm
    asked = ["partition=gpu", "gpus=1", "minutes=60", "slurm_constraint=a100", "workers=2"]
    words = [word for one in asked for word in ("--cluster-set", one)]
    told = run([*WORDS, *model, *QUICKLY, *words], tmp_path, more=environment)
    assert "2 of 2 cells done" in told.stdout and rows(tmp_path) == serial
    assert ended(folder) == {"COMPLETED"}
    options = (folder / "submitted-1").read_text()
    for given in ('"partition": "gpu"', '"gpus-per-node": "1"', '"time": "60"', "a100"):
        assert given in options
    # The same command again finds everything done, and asks SLURM for nothing more than a check.
    before = len(fake_slurm.jobs(folder))
    run([*WORDS, *model, *QUICKLY, *words], tmp_path, more=environment)
    assert len(fake_slurm.jobs(folder)) == before + 1


def test_a_job_of_two_processes_writes_what_two_processes_write(model, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    words = [*over(WORDS, "--methods", "opcd_full"), *model, "--processes", "2"]
    run(words, one)
    told = run([*words, *QUICKLY, "--cluster-set", "submit=local"], two)
    assert "1 of 1 cells done" in told.stdout
    assert rows(two) == rows(one)


def begun(words, folder, environment):
    """A driver, left alone once a cell has trained two steps."""
    process = subprocess.Popen([sys.executable, "-c", ENTRY, *words], cwd=folder, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "CI": "true", **environment},
                               start_new_session=True)  # fmt: skip
    for _ in range(3000):
        if any(len(p.read_bytes().splitlines()) >= 2 for p in folder.rglob("train.jsonl")):
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no cell began")


LONG = over(WORDS, "--max-steps", "12")


@pytest.fixture(scope="module")
def long_serial(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    run([*LONG, *model], folder)
    return rows(folder)


def test_a_preempted_job_is_requeued_and_goes_on(slurm, model, long_serial, tmp_path):
    folder, environment = slurm
    process = begun([*LONG, *model, *QUICKLY], tmp_path, environment)
    (running,) = [n for n, s in fake_slurm.jobs(folder).items() if s == "RUNNING"][:1]
    fake_slurm.send(folder, running, "USR2")
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert (folder / running / "starts").read_text() == "2"
    assert rows(tmp_path) == long_serial


def test_a_job_that_reaches_its_time_limit_twice_and_is_then_killed_goes_on(
    slurm, model, long_serial, tmp_path
):
    """One limit is allowed: at the second submitit lets the job go, and the driver does not."""
    folder, environment = slurm
    limits = ["--cluster-set", "minutes=5", "--cluster-set", "requeues=1"]
    process = begun([*LONG, *model, *QUICKLY, *limits], tmp_path, environment)
    (running,) = [n for n, s in fake_slurm.jobs(folder).items() if s == "RUNNING"][:1]
    before = set(fake_slurm.jobs(folder))
    fake_slurm.reach_time_limit(folder, running)
    until(process, lambda: (folder / running / "starts").read_text() == "2")
    fake_slurm.reach_time_limit(folder, running)
    until(process, lambda: "RUNNING" in new(folder, before).values())
    assert (folder / running / "starts").read_text() == "2"
    (again,) = [n for n, s in new(folder, before).items() if s == "RUNNING"]
    fake_slurm.send(folder, again, "KILL")
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "timed-out too many times" in err and err.count("it is given out again") == 2
    assert rows(tmp_path) == long_serial


def new(folder, before):
    """The jobs that are not among ``before``, and their states."""
    return {n: state for n, state in fake_slurm.jobs(folder).items() if n not in before}


def until(process, ready):
    """Wait for something, as long as the driver lives."""
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_cell_that_another_process_holds_has_its_turn_after_that(slurm, model, serial, tmp_path):
    _, environment = slurm
    run([*over(WORDS, "--methods", "sft_context"), *model], tmp_path)
    held = tmp_path / "results" / "small" / next(n for n in serial if "--opcd_full--" in n)
    held.mkdir()
    with Lease(held / LOCK):
        process = subprocess.Popen([sys.executable, "-c", ENTRY, *WORDS, *model, *QUICKLY],
                                   cwd=tmp_path, text=True, stderr=subprocess.PIPE,
                                   env={**os.environ, "CI": "true", **environment})  # fmt: skip
        for line in process.stderr:
            if "It has its turn again after that" in line:
                break
        assert f"process {os.getpid()} is writing this folder" in line
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "lost" not in err and rows(tmp_path) == serial


def test_the_driver_may_die_and_the_next_one_finds_what_runs(slurm, model, long_serial, tmp_path):
    folder, environment = slurm
    words = [*LONG, *model, *QUICKLY]
    process = begun(words, tmp_path, environment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    queued = {n for n, s in fake_slurm.jobs(folder).items() if s in ("RUNNING", "PENDING")}
    assert queued
    told = run(words, tmp_path, more=environment)
    assert "2 of 2 cells done" in told.stdout and rows(tmp_path) == long_serial
    # The check is a job anew, no cell is: each was started once.
    started = {n: (folder / n / "starts").read_text() for n in queued}
    assert set(started.values()) == {"1"}
    assert len(fake_slurm.jobs(folder)) <= 1 + len(queued) + 4


def test_without_slurm_one_line_says_what_to_type(model, tmp_path):
    told = run([*WORDS, *model, "--cluster", "slurm"], tmp_path, code=2,
               more={"PATH": "/usr/bin:/bin"})  # fmt: skip
    assert "--cluster slurm" in told.stderr and "submit=local" in told.stderr
    assert "Traceback" not in told.stderr
