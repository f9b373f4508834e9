"""Leases between processes: one writer at a time, whoever is killed, stopped or on another host."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures import write_tiny_model
from test_store_survives_kill import killed_at

from opcd_bench.cli import main
from opcd_bench.errors import LeaseLost, StoreError
from opcd_bench.report.tables.stored import text_of
from opcd_bench.runner.rounds import any_suite
from opcd_bench.store import heartbeat, lease, lease_file, machine
from opcd_bench.store.files import LOCK, NEXT, remove_temporaries, write_atomic
from opcd_bench.store.lease import Lease
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.verification import verify

STALE = 1.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the children, which are forked."""
    monkeypatch.setattr(lease, "STALE", STALE)
    monkeypatch.setattr(lease, "LONGEST", 0.1)
    monkeypatch.setattr(lease, "SAID_AFTER", 0.5)
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)


class Child:
    """A forked process; it writes lines, and goes on when it is told to."""

    def __init__(self, work: Callable[[Child], Any], host: str | None = None) -> None:
        out, self._up = os.pipe()
        self._down, into = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                if host is not None:
                    place = {"host": host, "boot": f"boot of {host}", "namespace": "pid:[7]"}
                    machine.here = lambda: place  # type: ignore[assignment]
                work(self)
                code = 0
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else 1
            finally:
                os._exit(code)
        os.close(self._up)
        os.close(self._down)
        self._lines, self._into = os.fdopen(out), into

    def say(self, line: str) -> None:
        os.write(self._up, f"{line}\n".encode())

    def wait(self) -> None:
        os.read(self._down, 1)

    def line(self) -> str:
        return self._lines.readline().strip()

    def go_on(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended
            os.write(self._into, b"\n")

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Its exit code; minus the signal's number for a killed one."""
        self._lines.close()
        os.close(self._into)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def holding(path: Path) -> Callable[[Child], None]:
    def work(child: Child) -> None:
        with Lease(path):
            child.say("held")
            child.wait()

    return work


# One at a time ------------------------------------------------------------------------------------


def test_many_processes_that_count_lose_nothing(tmp_path: Path) -> None:
    counter, processes, each = tmp_path / "counter", 8, 20
    counter.write_text("0")

    def work(_: Child) -> None:
        for _ in range(each):
            with Lease(tmp_path / LOCK, wait=True) as mine:
                number = int(counter.read_text())
                time.sleep(0.001)
                mine.check()
                counter.write_text(str(number + 1))

    children = [Child(work, host=f"host{number % 3}") for number in range(processes)]
    assert [child.ended() for child in children] == [0] * processes
    assert counter.read_text() == str(processes * each)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["counter"]


def alone(folder: Path) -> None:
    """Work that fails where another living process is at it too."""
    inside = folder / "inside"
    if inside.exists():
        former = json.loads(inside.read_text())
        assert machine.Process(**former).has_ended, "two at a time"
        inside.unlink()
    write_atomic(inside, json.dumps(machine.this().to_json()))
    time.sleep(0.005)
    assert json.loads(inside.read_text())["pid"] == os.getpid(), "two at a time"
    inside.unlink()


def test_one_at_a_time_whoever_is_killed_whenever(tmp_path: Path) -> None:
    def work(_: Child) -> None:
        for _ in range(1000):
            with Lease(tmp_path / LOCK, wait=True):
                alone(tmp_path)
                with (tmp_path / "turns").open("a") as file:
                    file.write(".")

    chance = random.Random(0)
    children = [Child(work) for _ in range(5)]
    for _ in range(40):
        time.sleep(chance.uniform(0.005, 0.06))
        victim = children.pop(chance.randrange(len(children)))
        victim.send(signal.SIGKILL)
        assert victim.ended() == -signal.SIGKILL, "it had failed by itself"
        children.append(Child(work))
    for child in children:
        child.send(signal.SIGKILL)
        assert child.ended() == -signal.SIGKILL
    begun = time.monotonic()
    with Lease(tmp_path / LOCK):
        assert time.monotonic() - begun < STALE, "a killed process of this machine is seen at once"
        remove_temporaries(tmp_path)
        assert LOCK + NEXT not in {one.name for one in tmp_path.iterdir()}
    assert len((tmp_path / "turns").read_text()) > 20


def test_of_many_that_take_over_at_once_one_wins(tmp_path: Path) -> None:
    for dead_here in (True, True, True, False):
        path = tmp_path / str(time.monotonic_ns()) / LOCK
        path.parent.mkdir()
        former = Child(holding(path), host=None if dead_here else "away")
        assert former.line() == "held"

        def work(child: Child, path: Path = path) -> None:
            child.say("ready")
            child.wait()
            try:
                with Lease(path) as mine:
                    mine.check()
                    child.say("won")
                    child.wait()
                    mine.check()
            except StoreError:
                child.say("lost")

        takers = [Child(work, host=None if dead_here else f"b{n}") for n in range(6)]
        assert {taker.line() for taker in takers} == {"ready"}
        former.send(signal.SIGKILL)
        former.ended()
        for taker in takers:
            taker.go_on()
        assert sorted(taker.line() for taker in takers) == ["lost"] * 5 + ["won"]
        for taker in takers:
            taker.go_on()
        assert [taker.ended() for taker in takers] == [0] * 6
        assert list(path.parent.iterdir()) == []


def test_a_process_that_dies_anywhere_while_it_takes_over_is_in_nobodys_way(tmp_path: Path) -> None:
    moment, killed = 0, True
    while killed:
        moment += 1
        path = tmp_path / str(moment) / LOCK
        path.parent.mkdir()
        former = Child(holding(path))
        assert former.line() == "held"
        former.send(signal.SIGKILL)
        former.ended()

        def work(path: Path = path) -> None:
            Lease(path).release()

        killed = killed_at(work, moment)
        begun = time.monotonic()
        with Lease(path) as mine:
            mine.check()
            assert time.monotonic() - begun < STALE
            remove_temporaries(path.parent)
            assert [one.name for one in path.parent.iterdir()] == [LOCK]
    assert moment > 8


# Other hosts --------------------------------------------------------------------------------------


def test_a_holder_on_another_host_is_refused_while_it_lives_and_replaced_once_it_is_dead(
    tmp_path: Path,
) -> None:
    former = Child(holding(tmp_path / LOCK), host="node7")
    assert former.line() == "held"
    begun = time.monotonic()
    with pytest.raises(StoreError, match=rf"process {former.pid} on node7 is writing"):
        Lease(tmp_path / LOCK)
    assert time.monotonic() - begun < STALE
    former.send(signal.SIGKILL)
    assert former.ended() == -signal.SIGKILL
    begun = time.monotonic()
    with Lease(tmp_path / LOCK) as mine:
        assert time.monotonic() - begun >= STALE
        mine.check()


def test_a_stopped_process_whose_run_was_taken_over_writes_nothing_when_it_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run"

    def work(child: Child) -> None:
        run = RunDir.open(path, {"a": 1}, {})
        run.train({"step": 1})
        child.say("trained")
        child.wait()
        try:
            run.train({"step": 2})
        except LeaseLost as lost:
            run.close()
            child.say(str(lost))

    former = Child(work, host="node7")
    assert former.line() == "trained"
    former.send(signal.SIGSTOP)
    with RunDir.open(path, {"a": 1}, {}) as run:
        run.rewind(-1)
        run.train({"step": 1, "by": "us"})
        before = {one: one.read_bytes() for one in path.rglob("*") if one.name != LOCK}
        former.go_on()
        former.send(signal.SIGCONT)
        said = former.line()
        assert f"process {os.getpid()} on {machine.here()['host']} took this folder over" in said
        assert former.ended() == 0
        assert {one: one.read_bytes() for one in path.rglob("*") if one.name != LOCK} == before
        run.train({"step": 2})
    assert [row["step"] for row in RunReader(path).read("train")] == [1, 2]


# Whole runs ---------------------------------------------------------------------------------------

WORDS = [
    "run", "--tasks", "frozen_lake", "--max-steps", "3", "--batch-size", "2", "--retention", "none",
    "--name", "small", "--no-report", "--set", "eval_steps=1", "--set", "dev_items=2",
    "--set", "test_items=3", "--set", "max_completion_length=6", "--set", "threads=1",
    "--set", "jobs=1", "--set", "seeds=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def run_child(folder: Path, model: Path, methods: str, host: str) -> Child:
    """`opcd-bench run` on a host, whose messages go to a file."""

    def work(child: Child) -> None:
        os.chdir(folder)
        sys.stdout = sys.stderr = open(f"said-{host}", "a", buffering=1)
        assert any_suite.run, "imported before the fork, so that no child has to"
        main.entry([*WORDS, "--methods", methods, "--model", str(model)])

    return Child(work, host)


def cells(folder: Path) -> dict[str, bytes]:
    """Every byte of the runs that no clock and no machine touches."""
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in folder.rglob("*")
        if one.name in ("train.jsonl.gz", "evals.jsonl.gz", "config.json")
        or one.parent.name == "samples"
    }


def table(folder: Path) -> str:
    """The comparison's lines, sorted: methods stand as they were typed by whoever came first.

    Seconds, the last column, are the machine's.
    """
    told = text_of(folder / "results" / "small", chained=False)
    return "\n".join(sorted(re.sub(r" {2,}\d+$", "", line) for line in told.splitlines()))


def events(folder: Path) -> Iterator[list[str]]:
    for run in SuiteDir(folder / "results" / "small").runs():
        yield [row["kind"] for row in RunReader(run).read("events")]


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    assert run_child(folder, model, "sft_context,opcd_full", "a").ended() == 0
    return folder


def test_two_hosts_in_one_folder_run_no_cell_twice_and_end_as_one(
    tmp_path: Path, model: Path, serial: Path
) -> None:
    """A host that meets a cell of the other's says so, with exit code 2; then it is typed again."""
    todo = {"a": "sft_context,opcd_full", "b": "opcd_full,sft_context"}
    running = {host: run_child(tmp_path, model, todo[host], host) for host in todo}
    for _ in range(20):
        codes = {host: child.ended() for host, child in running.items()}
        for host, code in codes.items():
            said = (tmp_path / f"said-{host}").read_text()
            assert code == 0 or (code == 2 and "is writing this folder now, since" in said), said
        running = {h: run_child(tmp_path, model, todo[h], h) for h, code in codes.items() if code}
        if not running:
            break
    assert not running
    assert list(events(tmp_path)) == list(events(serial))
    assert all(kinds.count("started") == 1 and "resumed" not in kinds for kinds in events(tmp_path))
    assert cells(tmp_path / "results") == cells(serial / "results") != {}
    assert table(tmp_path) == table(serial)
    assert not [one for one in verify(tmp_path / "results/small") if one.damage]


def test_a_stopped_run_that_another_host_took_over_ends_with_exit_code_2_and_harms_nothing(
    tmp_path: Path, model: Path, serial: Path
) -> None:
    former = run_child(tmp_path, model, "sft_context,opcd_full", "a")
    while not list(tmp_path.rglob("train.jsonl")):
        time.sleep(0.005)
    former.send(signal.SIGSTOP)
    (rows,) = tmp_path.rglob("train.jsonl")
    assert not (rows.parent / "DONE").exists(), "stopped too late: give it more steps"
    taker = run_child(tmp_path, model, "sft_context,opcd_full", "b")
    while (there := lease_file.read(rows.parent / LOCK)) and there.process.host != "b":
        time.sleep(0.01)
    former.send(signal.SIGCONT)
    assert former.ended() == 2
    said = (tmp_path / "said-a").read_text()
    assert f"process {taker.pid} on b took this folder over at" in said and "Traceback" not in said
    assert taker.ended() == 0, (tmp_path / "said-b").read_text()
    assert f"{former.pid} on a has it; without a sign" in (tmp_path / "said-b").read_text()
    assert cells(tmp_path / "results") == cells(serial / "results")
    assert not list(tmp_path.rglob("FAILED.json"))
    assert table(tmp_path) == table(serial)
    assert not [one for one in verify(tmp_path / "results/small") if one.damage]
