"""kill -9 at any moment, then the same command: the finished files are those of no kill at all."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from opcd_bench.store.files import LOCK, remove_folder, remove_temporaries
from opcd_bench.store.jsonl import read_rows
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SharedDir, SuiteDir
from opcd_bench.store.tidying import tidy
from opcd_bench.store.verification import verify

CONFIG = {"method": "toy", "learning_rate": 1e-3}
LAST, SAVE_EVERY, EVAL_EVERY = 4, 2, 2
# Every call by which the store changes a disk; a kill may come before any, or within a write.
CALLS = (
    "open", "write", "pwrite", "fsync", "ftruncate", "replace", "rename", "link", "unlink", "mkdir",
    "rmdir",
)  # fmt: skip


def evaluate(run: RunDir, step: int, state: str) -> None:
    run.samples(f"dev-step_{step:06d}", [{"reply": state * 3, "é": n} for n in range(3)])
    run.eval({"step": step, "split": "dev", "value": int(state[:4], 16) / 65536})


def train(path: Path) -> None:
    """A toy cell: its state is a hash, so a lost or repeated step shows in every later row."""
    with RunDir.open(path, CONFIG, {"pid": os.getpid()}) as run:
        if run.sealed:
            return
        last = run.last_checkpoint()
        step, state = (last.step, (last.path / "state.txt").read_text()) if last else (0, "begin")
        run.rewind(step if last else -1)
        if last is None:
            evaluate(run, 0, hashlib.sha256(state.encode()).hexdigest())
        while step < LAST:
            step += 1
            state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()[:8]
            run.train({"step": step, "loss": float(int(state[:3], 16)), "state": state})
            run.timing({"step": step, "seconds": time.perf_counter()})
            if step % EVAL_EVERY == 0 or step == LAST:
                evaluate(run, step, state)
            if step % SAVE_EVERY == 0 or step == LAST:
                with run.checkpoint(step) as folder:
                    (folder / "state.txt").write_text(state)
                run.drop_checkpoints({step})
        run.eval({"step": LAST, "split": "test", "value": 0.5, "final": True})
        run.samples("test", [{"reply": state}])
        run.seal({"state": state}, keep={LAST})


def compared(path: Path) -> dict[str, bytes]:
    """What must not depend on kills: all files but those that the clock or the process touches."""
    told_apart = ("events.jsonl", "timing.jsonl.gz", "environment.json", "DONE")
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in told_apart
    }


def killed_at(work: Callable[[], Any], moment: int) -> bool:
    """Fork, do ``work``, die by SIGKILL before the ``moment``-th call; False if it ended before."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _arm(moment)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself; its traceback is above"
    return False


def _arm(moment: int) -> None:
    """In the child only: count the calls, and die at the right one."""
    count = 0

    def armed(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment:
                if name == "write":  # in the middle of a row
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            # A killed process loses nothing that the system has taken, so no real sync is needed.
            return None if name == "fsync" else real(*args, **kwargs)

        return call

    for name in CALLS:
        setattr(os, name, armed(name, getattr(os, name)))


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: a kill leaves there what it leaves on a disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("whole") / "run"
    train(path)
    files = compared(path)
    assert gzip.decompress(files["train.jsonl.gz"]).count(b"\n") == LAST
    kept = [name for name in files if name.endswith("state.txt")]
    assert kept == [f"checkpoints/step_{LAST:06d}/state.txt"]
    return files


def finish(path: Path) -> None:
    """The same command again, left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        train(path)


def kill_points(work: Callable[[Path], Any], folder: Path, check: Callable[[Path], Any]) -> int:
    """Kill ``work`` at its first, second, … call, each in a fresh folder; how many there were."""
    for moment in range(1, 10_000):
        path = folder / str(moment)
        if not killed_at(partial(work, path), moment):
            return moment - 1
        check(path)
        shutil.rmtree(path, ignore_errors=True)
    raise AssertionError("the work never ended")


def test_a_run_killed_at_every_call_ends_as_if_it_had_not_been(
    quick: Path, uninterrupted: dict[str, bytes]
) -> None:
    def check(path: Path) -> None:
        sealed_before = (path / "DONE").exists()
        finish(path)
        if sealed_before:  # checkpoints that were to go after the seal may still be there
            assert compared(path).items() >= uninterrupted.items()
            assert {(p.kind, p.damage) for p in verify(path)} <= {("extra", False)}
        else:
            assert compared(path) == uninterrupted
            assert verify(path) == []

    points = kill_points(train, quick, check)
    assert points > 120


def test_a_run_killed_again_and_again_while_resuming_ends_as_if_it_had_not_been(
    quick: Path, uninterrupted: dict[str, bytes]
) -> None:
    chance = random.Random(0)
    total = 0
    for attempt in range(10):
        path = quick / str(attempt)
        kills = 0
        while killed_at(partial(train, path), chance.randint(5, 120)):
            kills += 1
            assert kills < 300
        total += kills
        assert compared(path).items() >= uninterrupted.items()
        assert not any(problem.damage for problem in verify(path))
    assert total > 20


@pytest.mark.parametrize(("name", "step"), [("train", 3), ("timing", 3), ("evals", 4)])
def test_a_row_torn_at_any_byte_is_written_again_the_same(
    quick: Path, uninterrupted: dict[str, bytes], name: str, step: int
) -> None:
    def killed_after_the_row(path: Path) -> None:
        real = RunDir._append

        def append(run: RunDir, to: str, row: Any) -> None:
            real(run, to, row)
            if (to, row["step"]) == (name, step):
                os.kill(os.getpid(), signal.SIGKILL)

        RunDir._append = append  # type: ignore[method-assign]  # in the child only
        train(path)

    whole = quick / "whole"
    assert killed_at(partial(killed_after_the_row, whole), 10**9)
    rows = (whole / f"{name}.jsonl").read_bytes()
    for length in range(rows.rindex(b"\n", 0, -1) + 1, len(rows) + 1):
        path = shutil.copytree(whole, quick / str(length))
        (path / f"{name}.jsonl").write_bytes(rows[:length])
        finish(path)
        assert compared(path) == uninterrupted
        assert verify(path) == []


def test_kills_from_outside_at_any_time_lose_nothing(
    tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    path = tmp_path / "run"
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import test_store_survives_kill as toy; print('ready', flush=True);"
        "toy.train(Path(sys.argv[2]))"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).parent), str(path)]
    delay = 0.0
    for _ in range(10):
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(delay)
            process.kill()
        if (path / "DONE").exists():
            break
        delay += 0.03
    train(path)
    assert compared(path).items() >= uninterrupted.items()
    assert not any(problem.damage for problem in verify(path))


def test_shared_rows_are_whole_or_absent_after_a_kill_at_every_call(quick: Path) -> None:
    rows = [{"id": n, "reply": "x" * 50} for n in range(20)]

    def check(path: Path) -> None:
        shared = SharedDir(path)
        if path.exists() and shared.has("base"):
            assert shared.get("base") == rows
        assert shared.put("base", rows) == rows
        assert read_rows(shared.file("base")) == rows
        assert shared.problems() == []
        assert {p.name for p in path.iterdir()} <= {"base.jsonl", "base.sha256", LOCK}

    assert kill_points(lambda path: SharedDir(path).put("base", rows), quick, check) > 10


def grow(path: Path) -> None:
    """A small suite: what is said of it, shared rows, a run that joins it, an external result."""
    suite = SuiteDir(path)
    suite.merge({"methods": ["toy"], "tasks": ["toy"], "floors": {"toy": 0.5}})
    tidy(suite)
    suite.shared("toy", "abc").put("base", [{"reply": "1"}])
    with RunDir.open(suite.run("cell"), CONFIG, {}) as run:
        if not run.sealed:
            run.rewind(-1)
            for step in (1, 2):
                run.train({"step": step, "loss": 0.5})
                with run.checkpoint(step) as folder:
                    (folder / "state.txt").write_text("x")
            run.seal({"accuracy": 0.5}, keep={2})
    suite.merge({"floors": {"toy": 0.25}})
    suite.put_external("stock", b"{}")
    suite.put_external("stock", b'{"again": 1}')


def test_a_suite_killed_at_every_call_is_never_called_damaged_and_ends_with_a_whole_list(
    quick: Path,
) -> None:
    def check(path: Path) -> None:
        if (path / "suite.json").is_file():
            assert [problem for problem in verify(path) if problem.damage] == []
        grow(path)
        assert verify(path) == []
        listed = (path / "SEALED").read_text()
        names = ("suite.json", "cell/DONE", "shared/toy--abc/base.jsonl.gz", "external/stock.json")
        assert all(listed.count(name) == 1 for name in names) and listed.count("\n") == len(names)
        assert [p.name for p in path.rglob(".*")] in ([], [LOCK])

    points = kill_points(grow, quick, check)
    assert points > 100


def test_a_folder_whose_removal_is_killed_at_any_call_is_whole_or_gone(quick: Path) -> None:
    names = ("a", "inner/b", "manifest.json")

    def check(path: Path) -> None:
        left = path / "step_000001"
        assert not left.exists() or all((left / name).is_file() for name in names)
        remove_temporaries(path)
        assert {p.name for p in path.iterdir()} <= {"step_000001"}

    moment, killed = 0, True
    while killed:
        moment += 1
        path = quick / str(moment)
        for name in names:
            (path / "step_000001" / name).parent.mkdir(parents=True, exist_ok=True)
            (path / "step_000001" / name).write_text(name)
        killed = killed_at(partial(remove_folder, path / "step_000001"), moment)
        check(path)
    assert moment > 5 and not (path / "step_000001").exists()
