"""The run directory's promises, one by one; kills are in tests/invariants."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opcd_bench.errors import StoreError
from opcd_bench.store import files
from opcd_bench.store.files import LOCK, write_atomic
from opcd_bench.store.jsonl import append_row, canonical_row, joined, read_rows, unzipped
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader, row_count
from opcd_bench.store.suite_dir import CLUSTERS, PREFIX_PROBE, SharedDir, SuiteDir
from opcd_bench.store.verification import verify

CONFIG = {"method": "opcd", "learning_rate": 1e-3, "nested": {"k": 20}}
ENVIRONMENT = {"device": "cpu", "versions": {"torch": "2.13.0"}}


def begin(path: Path, **changes: Any) -> RunDir:
    return RunDir.open(path, CONFIG | changes, ENVIRONMENT)


def checkpointed(run: RunDir, step: int, data: bytes = b"weights") -> Path:
    with run.checkpoint(step) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights.bin").write_bytes(data)
    return run.path / "checkpoints" / f"step_{step:06d}"


def finished(path: Path) -> Path:
    """A sealed run with rows of every kind and one checkpoint."""
    with begin(path) as run:
        run.train({"step": 1, "loss": 0.5})
        run.timing({"step": 1, "seconds": 0.1})
        run.eval({"step": 1, "metric": "accuracy", "value": 0.25})
        run.samples("dev-step_000001", [{"reply": "42"}])
        checkpointed(run, 1)
        run.seal({"accuracy": 0.25})
    return path


def damage_of(path: Path) -> list[tuple[str, str]]:
    return [(p.kind, p.path.name) for p in verify(path) if p.damage]


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Rows -----------------------------------------------------------------------------------------


def test_a_row_has_sorted_keys_and_no_spaces() -> None:
    assert canonical_row({"b": 1, "a": [1.5, None, "é"]}) == '{"a":[1.5,null,"é"],"b":1}'


def test_a_value_that_is_not_finite_becomes_null_and_is_named_in_a_note() -> None:
    row = {"loss": math.nan, "parts": {"x": [1.0, -math.inf]}, "note": "five skipped"}
    assert json.loads(canonical_row(row)) == {
        "loss": None,
        "parts": {"x": [1.0, None]},
        "note": "five skipped; not finite: loss (nan), parts.x[1] (-inf)",
    }


def test_a_reply_with_half_a_surrogate_pair_comes_back_as_it_was(tmp_path: Path) -> None:
    row = {"reply": "broken \ud83d emoji, \u2028 and \n"}
    append_row(tmp_path / "rows.jsonl", row)
    assert read_rows(tmp_path / "rows.jsonl") == [row]


@pytest.mark.parametrize("row", [{1: "a"}, {"a": {2: 1}}, {"a": object()}])
def test_what_json_does_not_have_is_a_type_error(row: Any) -> None:
    with pytest.raises(TypeError):
        canonical_row(row)


def test_a_line_torn_at_any_byte_is_dropped_and_the_next_row_follows_the_whole_ones(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.jsonl"
    whole = b'{"step":1}\n{"step":2}\n'
    torn = '{"reply":"é","step":3}'.encode()
    for length in range(len(torn) + 1):
        path.write_bytes(whole + torn[:length])
        assert read_rows(path) == [{"step": 1}, {"step": 2}]
        append_row(path, {"step": 3}, fsync=True)
        assert path.read_bytes() == whole + b'{"step":3}\n'


def test_a_torn_line_longer_than_one_read_is_cut_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n' + b"x" * 200_000)
    append_row(path, {"a": 2})
    assert path.read_bytes() == b'{"a":1}\n{"a":2}\n'


@pytest.mark.parametrize("bad", [b"{", b"", b"[1]", b'{"a":NaN}', b"\xff\xfe", b"\x00\x00"])
def test_a_bad_line_that_is_not_torn_is_an_error_with_file_and_line(
    tmp_path: Path, bad: bytes
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a":1}\n' + bad + b'\n{"a":3}\n')
    with pytest.raises(StoreError, match=r"rows\.jsonl, line 2"):
        read_rows(path)


# Full disks and folders that cannot be written -------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 KiB; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"cannot mount a small file system: {made.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    with begin(small_disk / "run") as run:
        run.train({"step": 1, "loss": 0.5})
        checkpointed(run, 1)
        run.samples("dev-step_000001", [{"reply": "before"}])
        before = everything_in(small_disk)
        too_much = [{"reply": os.urandom(200_000).hex()}]  # what gzip cannot make small
        with pytest.raises(StoreError, match=r"disk is full.*--output-dir"):
            run.samples("dev-step_000001", too_much)
        with pytest.raises(StoreError, match="disk is full"):
            run.train({"step": 2, "reply": "x" * 200_000})
        with pytest.raises(StoreError, match="disk is full"):
            checkpointed(run, 2, b"x" * 200_000)
        assert everything_in(small_disk) == before
        run.train({"step": 2, "loss": 0.25})
        assert [row["step"] for row in run.read("train")] == [1, 2]


def test_a_library_that_hides_the_full_disk_is_seen_through(small_disk: Path) -> None:
    with begin(small_disk / "run") as run, pytest.raises(StoreError, match="disk is full"):
        with run.checkpoint(1) as folder:
            try:
                (folder / "weights.bin").write_bytes(b"x" * 200_000)
            except OSError:
                raise RuntimeError("PytorchStreamWriter failed writing file") from None


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "file.json"
    write_atomic(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _failing(code))
        with pytest.raises(StoreError, match=r"file\.json"):
            write_atomic(path, "new")
    assert everything_in(tmp_path) == {"file.json": b"old"}


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_an_append_that_fails_leaves_the_rows_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, _failing(errno.ENOSPC))
        with pytest.raises(StoreError, match="disk is full"):
            append_row(path, {"step": 2}, fsync=True)
    assert path.read_bytes() == b'{"step":1}\n'


def test_an_append_that_the_disk_takes_half_of_leaves_the_rows_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, {"step": 1})
    real, calls = os.write, []

    def half(handle: int, data: Any) -> int:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, bytes(data)[:5])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(StoreError, match="disk is full"):
            append_row(path, {"step": 2})
    assert path.read_bytes() == b'{"step":1}\n'


def _failing(code: int) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_a_folder_below_a_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("not a folder")
    for attempt in (
        lambda: begin(tmp_path / "results" / "quick" / "cell"),
        lambda: begin(tmp_path / "results"),
        lambda: SuiteDir(tmp_path / "results" / "quick").merge({}),
        lambda: SuiteDir(tmp_path / "results"),
        lambda: SharedDir(tmp_path / "results" / "shared").put("base", []),
    ):
        with pytest.raises(StoreError, match="--output-dir"):
            attempt()
    assert everything_in(tmp_path) == {"results": b"not a folder"}


def test_a_folder_without_the_right_to_write_is_refused_with_the_way_out(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    if os.geteuid() == 0:  # root may write anywhere, save on a disk mounted read-only
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(locked)], capture_output=True
        )
        if made.returncode:
            pytest.skip("root that may not mount: there is no folder it cannot write")
    else:
        locked.chmod(0o500)
    try:
        with pytest.raises(StoreError, match=r"cannot be written.*--output-dir"):
            begin(locked / "run")
        with pytest.raises(StoreError, match=r"cannot be written.*--output-dir"):
            write_atomic(locked / "file", "text")
        assert list(locked.iterdir()) == []
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(locked)], check=True)


# Opening a run --------------------------------------------------------------------------------


def test_a_run_is_resumed_with_its_first_environment_and_the_later_one_in_its_events(
    tmp_path: Path,
) -> None:
    begin(tmp_path / "run").close()
    moved = {"device": "cuda", "versions": {"torch": "2.13.0"}}
    with RunDir.open(tmp_path / "run", CONFIG, moved) as run:
        assert run.environment == ENVIRONMENT
        started, resumed = run.read("events")
    assert started["kind"] == "started" and "time" in started
    assert resumed["environment"] == moved
    assert resumed["changed"] == ['device: "cpu" -> "cuda"']


def test_other_settings_are_refused_by_name_with_both_values(tmp_path: Path) -> None:
    begin(tmp_path / "run").close()
    before = everything_in(tmp_path)
    with pytest.raises(StoreError) as caught:
        begin(tmp_path / "run", learning_rate=1e-4, nested={"k": 256}, seed=0)
    message = str(caught.value)
    assert "learning_rate: 0.001 -> 0.0001" in message
    assert "nested.k: 20 -> 256" in message
    assert "seed: (absent) -> 0" in message
    assert "--name" in message and "rm -r" in message and "method" not in message
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize(
    "names", [("notes.txt",), ("config.json", "model.safetensors"), (".git/HEAD",)]
)
def test_a_folder_that_is_not_ours_is_refused_and_untouched(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("{}")
    before = everything_in(tmp_path)
    with pytest.raises(StoreError, match=r"not a run of opcd-bench.*--output-dir") as run:
        begin(tmp_path / "mine")
    with pytest.raises(
        StoreError, match=r"not a suite of opcd-bench.*--output-dir.*--name"
    ) as suite:
        SuiteDir(tmp_path / "mine")
    assert "rm " not in f"{run.value} {suite.value}"
    assert everything_in(tmp_path) == before


def test_a_suite_file_of_something_else_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "suite.json").write_text('{"tests": 3}')
    with pytest.raises(StoreError, match=r"a suite\.json of something else.*stays as it is"):
        SuiteDir(tmp_path / "mine")


def test_a_second_writer_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from opcd_bench.store.run_dir import RunDir\n"
        f"run = RunDir.open(Path({str(tmp_path / 'run')!r}), {CONFIG!r}, {ENVIRONMENT!r})\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None and first.stdout.readline() == b"open\n"
        before = everything_in(tmp_path)
        with pytest.raises(StoreError, match=rf"process {first.pid} is writing.*kill {first.pid}"):
            begin(tmp_path / "run")
        assert everything_in(tmp_path) == before
        first.kill()
        first.wait()
        with begin(tmp_path / "run") as run:  # the dead process's lock is gone with it
            run.train({"step": 1})
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_run_that_was_closed_or_only_read_takes_no_rows(tmp_path: Path) -> None:
    run = begin(tmp_path / "run")
    run.close()
    with pytest.raises(StoreError, match="opened for reading"):
        run.train({"step": 1})
    assert RunReader(tmp_path / "run").config == CONFIG
    with pytest.raises(StoreError, match="is not a run"):
        RunReader(tmp_path / "elsewhere")


# Rows of a run --------------------------------------------------------------------------------


def test_rows_need_a_step_and_the_clock_stays_out_of_those_that_are_compared(
    tmp_path: Path,
) -> None:
    with begin(tmp_path / "run") as run:
        with pytest.raises(ValueError, match="integer 'step'"):
            run.train({"loss": 1.0})
        with pytest.raises(ValueError, match=r"timing\.jsonl"):
            run.eval({"step": 1, "seconds": 2.0})
        run.timing({"step": 1, "seconds": 2.0})
        assert (run.read("train"), run.read("timing")) == ([], [{"step": 1, "seconds": 2.0}])
        with pytest.raises(StoreError, match="no such rows; there are train"):
            run.read("samples/none")
        with pytest.raises(ValueError, match="cannot name a file"):
            run.samples("../escape", [])


def test_samples_are_packed_alike_each_time_and_those_of_older_runs_are_read_as_they_are(
    tmp_path: Path,
) -> None:
    rows = [{"reply": "x" * 100, "score": 1.0}] * 50
    with begin(tmp_path / "run") as run:
        run.samples("test", rows)
        file = run.path / "samples" / "test.jsonl.gz"
        first = file.read_bytes()
        assert len(first) < 500 < len(joined(rows))
        run.samples("test", rows)
        assert file.read_bytes() == first and run.read("samples/test") == rows
        (run.path / "samples" / "dev-step_000001.jsonl").write_bytes(joined(rows[:2]))
        assert run.sample_names() == ["dev-step_000001", "test"]
        assert run.read("samples/dev-step_000001") == rows[:2]
        file.write_bytes(first[:-9])
        with pytest.raises(StoreError, match=r"test\.jsonl\.gz: damaged"):
            run.read("samples/test")
        run.rewind(-1)
        assert run.sample_names() == []


def test_rewind_drops_what_is_past_the_step_and_the_final_test(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        for step in range(4):
            run.train({"step": step, "loss": float(step)})
            run.timing({"step": step, "seconds": 1.0})
            run.eval({"step": step, "value": 0.5})
            run.samples(f"dev-step_{step:06d}", [{"step": step}])
            checkpointed(run, step)
        run.eval({"step": 1, "split": "test", "final": True})
        run.samples("test", [{"reply": "x"}])
        kept = (run.path / "train.jsonl").read_bytes().splitlines(keepends=True)[:2]
        run.rewind(1)
        assert (run.path / "train.jsonl").read_bytes() == b"".join(kept)
        assert [row["step"] for row in run.read("timing")] == [0, 1]
        assert run.read("evals") == [{"step": 0, "value": 0.5}, {"step": 1, "value": 0.5}]
        assert run.sample_names() == ["dev-step_000000", "dev-step_000001"]
        assert [checkpoint.step for checkpoint in run.checkpoints()] == [0, 1]
        rewound = run.read("events")[-1]
        assert rewound["kind"] == "rewound" and rewound["dropped"]["evals"] == 3
        run.rewind(-1)
        assert run.read("train") == run.read("evals") == run.checkpoints() == []
        assert run.sample_names() == [] and run.last_checkpoint() is None


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_a_run_that_lost_a_file_is_called_a_run(tmp_path: Path, name: str) -> None:
    with begin(tmp_path / "run") as run:
        run.train({"step": 1, "loss": 0.5})
        if name == "config.json":
            run.seal({})
    (tmp_path / "run" / name).unlink()
    removal = f"{name}: is gone, though this is a run.* rm -r {tmp_path / 'run'}$"
    with pytest.raises(StoreError, match=removal):
        begin(tmp_path / "run")


def test_rewind_goes_by_the_step_that_a_name_ends_with(tmp_path: Path) -> None:
    """A task may be called so too."""
    with begin(tmp_path / "run") as run:
        for step in range(3):
            run.samples(f"scores-walk-step_2-step_{step:06d}", [{"step": step}])
        run.samples("probe-walk-step_0", [{"reply": "x"}])
        run.rewind(1)
        assert run.sample_names() == [f"scores-walk-step_2-step_{step:06d}" for step in (0, 1)]


# Checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_that_raises_leaves_nothing_and_the_error_its_own(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        checkpointed(run, 1)
        before = everything_in(run.path / "checkpoints")
        with pytest.raises(FileNotFoundError), run.checkpoint(2) as folder:
            (folder / "half").write_bytes(b"x")
            (folder / "absent").read_bytes()
        assert everything_in(run.path / "checkpoints") == before
        assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step_000001"]


def test_a_corrupt_checkpoint_is_named_with_what_to_type_and_never_passed_over(
    tmp_path: Path,
) -> None:
    with begin(tmp_path / "run") as run:
        checkpointed(run, 1)
        latest = checkpointed(run, 2)
        weights = latest / "inner" / "weights.bin"
        weights.write_bytes(b"weightZ")
        before = everything_in(run.path)
        with pytest.raises(StoreError) as caught:
            run.last_checkpoint()
        message = str(caught.value)
        assert "corrupt checkpoint" in message and str(weights) in message
        assert f"from step 1: type rm -r {latest}" in message
        weights.unlink()
        with pytest.raises(StoreError, match=r"weights\.bin: missing"):
            run.last_checkpoint()
        weights.write_bytes(b"weights")
        assert everything_in(run.path) == before | {
            f"checkpoints/step_{2:06d}/inner/weights.bin": b"weights"
        }
        found = run.last_checkpoint()
        assert found is not None and found.step == 2
        (latest / "manifest.json").write_text("{")
        with pytest.raises(StoreError, match=r"manifest\.json"):
            run.checkpoint_at(2)


def test_a_damaged_checkpoint_of_a_finished_run_is_not_to_be_removed_alone(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        latest = checkpointed(run, 1)
        run.seal({})
    (latest / "inner" / "weights.bin").write_bytes(b"weightZ")
    with pytest.raises(StoreError, match=f"run its run again: type rm -r {tmp_path / 'run'} and"):
        RunReader(tmp_path / "run").checkpoint_at(1)


def test_a_checkpoint_without_a_manifest_is_removed_on_opening(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        checkpointed(run, 1)
        (checkpointed(run, 2) / "manifest.json").unlink()
    with begin(tmp_path / "run") as run:
        assert [checkpoint.step for checkpoint in run.checkpoints()] == [1]
        assert [p.name for p in (run.path / "checkpoints").iterdir()] == ["step_000001"]
        assert run.read("events")[-1]["removed"] == ["step_000002"]


def test_checkpoints_are_found_by_step_and_dropped_but_for_those_to_keep(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        for step in (1, 2, 1_000_000):
            checkpointed(run, step)
        run.drop_checkpoints({2, 1_000_000})
        assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 1_000_000]
        assert run.checkpoint_at(2).path.name == "step_000002"
        with pytest.raises(StoreError, match="no checkpoint of step 1; there are 2, 1000000"):
            run.checkpoint_at(1)


# Seal, failure, verify --------------------------------------------------------------------------


def test_a_sealed_run_refuses_every_write_and_is_still_read(tmp_path: Path) -> None:
    finished(tmp_path / "run")
    before = everything_in(tmp_path)
    run = begin(tmp_path / "run")
    assert run.sealed and run.state == "sealed" and run.summary == {"accuracy": 0.25}
    for write in (
        lambda: run.train({"step": 2}),
        lambda: run.eval({"step": 2}),
        lambda: run.timing({"step": 2}),
        lambda: run.event("again"),
        lambda: run.samples("dev-step_000002", []),
        lambda: run.rewind(-1),
        lambda: run.checkpoint(2).__enter__(),
        lambda: run.drop_checkpoints(()),
        lambda: run.seal({}),
        lambda: run.fail("late", ""),
    ):
        with pytest.raises(StoreError, match="sealed"):
            write()
    with pytest.raises(StoreError, match="other settings"):
        begin(tmp_path / "run", learning_rate=1.0)
    assert everything_in(tmp_path) == before
    assert run.read("train") == [{"step": 1, "loss": 0.5}]


def test_sealing_keeps_the_named_checkpoints_and_is_whole(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        for step in (1, 2, 3):
            checkpointed(run, step)
        with pytest.raises(ValueError, match="not all of these"):
            run.seal({}, keep={7})
        run.seal({"value": math.nan}, keep={2})
    reader = RunReader(tmp_path / "run")
    assert [checkpoint.step for checkpoint in reader.checkpoints()] == [2]
    assert reader.summary == {"value": None, "note": "not finite: value (nan)"}
    assert verify(tmp_path / "run") == []


def test_a_failed_attempt_is_recorded_and_the_next_one_starts_clean(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        run.fail("five gradients were not finite", "Traceback …")
        with pytest.raises(ValueError, match="failed attempt"):
            run.seal({})
    assert RunReader(tmp_path / "run").state == "failed"
    assert [(p.kind, p.damage) for p in verify(tmp_path / "run")] == [("failed", False)]
    with begin(tmp_path / "run") as run:
        assert run.failure() is None and run.state == "unfinished"
        former = run.read("events")[-1]["after_failure"]
        assert former == {"reason": "five gradients were not finite", "traceback": "Traceback …"}


def test_rows_are_plain_while_they_are_written_and_packed_once_they_are_whole(
    tmp_path: Path,
) -> None:
    with begin(tmp_path / "run") as run:
        run.train({"step": 1, "loss": 0.5})
        run.timing({"step": 1, "seconds": 0.1})
        assert (run.path / "train.jsonl").read_text() == '{"loss":0.5,"step":1}\n'
        run.seal({})
        there = {path.name for path in run.path.iterdir()}
        assert {"train.jsonl.gz", "timing.jsonl.gz", "events.jsonl"} <= there
        assert not {"train.jsonl", "timing.jsonl", "evals.jsonl", "evals.jsonl.gz"} & there
        assert run.read("train") == [{"step": 1, "loss": 0.5}] and run.read("evals") == []
    assert row_count(tmp_path / "run", "train") == 1 and row_count(tmp_path / "run", "evals") == 0


def test_rows_of_an_older_seal_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunDir, "_pack", lambda _: None)
    run = finished(tmp_path / "run")
    assert RunReader(run).read("train") == [{"step": 1, "loss": 0.5}]
    assert verify(run) == [] and row_count(run, "train") == 1


def test_a_run_without_its_seal_goes_on_with_the_rows_that_were_packed(tmp_path: Path) -> None:
    """As a kill leaves it between packing and the seal, or whoever removes DONE."""
    path = finished(tmp_path / "run")
    (path / "DONE").unlink()
    assert RunReader(path).read("train") == [{"step": 1, "loss": 0.5}]
    with begin(path) as run:
        assert (path / "train.jsonl").exists() and not (path / "train.jsonl.gz").exists()
        run.rewind(1)
        run.train({"step": 2, "loss": 0.25})
        run.seal({})
    assert [row["loss"] for row in RunReader(path).read("train")] == [0.5, 0.25]
    assert verify(path) == []


def test_a_sealed_file_that_somebody_unpacked_is_named(tmp_path: Path) -> None:
    path = finished(tmp_path / "run")
    (path / "train.jsonl").write_bytes(unzipped(path / "train.jsonl.gz"))
    assert RunReader(path).read("train") == [{"step": 1, "loss": 0.5}]
    assert damage_of(path) == [("extra", "train.jsonl")]


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "environment.json",
        "events.jsonl",
        "train.jsonl.gz",
        "timing.jsonl.gz",
        "evals.jsonl.gz",
        "samples/dev-step_000001.jsonl.gz",
        "checkpoints/step_000001/manifest.json",
        "checkpoints/step_000001/inner/weights.bin",
    ],
)
def test_verify_sees_one_flipped_bit_and_a_missing_file(tmp_path: Path, name: str) -> None:
    path = finished(tmp_path / "run") / name
    assert verify(tmp_path / "run") == []
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    assert damage_of(tmp_path / "run") == [("changed", path.name)]
    if name != "config.json":  # without it there is no run
        path.unlink()
        assert damage_of(tmp_path / "run") == [("missing", path.name)]


def test_verify_sees_a_longer_file_an_extra_file_and_a_broken_seal(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    with (run / "train.jsonl.gz").open("ab") as file:
        file.write(b'{"step":2}\n')
    (run / "samples" / "more.jsonl").write_text("{}\n")
    (run / "checkpoints" / "step_000001" / "more").write_text("")
    found = {(p.kind, p.path.name) for p in verify(run)}
    assert found == {("changed", "train.jsonl.gz"), ("extra", "more.jsonl"), ("extra", "more")}
    (run / "DONE").write_text("{}")
    assert damage_of(run) == [("changed", "DONE")]


def test_a_run_kept_without_its_checkpoints_is_not_called_damaged(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    files.remove_folder(run / "checkpoints")
    assert [(p.kind, p.damage) for p in verify(run)] == [("no checkpoint", False)]


def test_an_unfinished_run_is_said_to_be_unfinished(tmp_path: Path) -> None:
    begin(tmp_path / "run").close()
    assert [(p.kind, p.damage) for p in verify(tmp_path / "run")] == [("unsealed", False)]
    with pytest.raises(StoreError, match="is neither a run"):
        (tmp_path / "empty").mkdir()
        verify(tmp_path / "empty")
    with pytest.raises(StoreError, match="no such folder"):
        verify(tmp_path / "absent")


# Suites and what their cells share ----------------------------------------------------------------


def test_a_suite_merges_what_is_said_of_it_and_lists_its_runs(tmp_path: Path) -> None:
    suite = SuiteDir(tmp_path / "quick")
    assert suite.read() == {} and suite.runs() == [] and not suite.path.exists()
    suite.merge({"methods": ["opcd"], "cells": {"a": 1}, "max_steps": 5})
    merged = suite.merge({"methods": ["opcd", "sft_context"], "cells": {"b": 2}, "max_steps": 9})
    expected = {"methods": ["opcd", "sft_context"], "cells": {"a": 1, "b": 2}, "max_steps": 9}
    assert merged == expected == SuiteDir(tmp_path / "quick").read()
    finished(suite.run("rule_math--opcd--s0--abc"))
    assert [run.name for run in suite.runs()] == ["rule_math--opcd--s0--abc"]
    assert sorted(p.name for p in suite.path.iterdir()) == [
        "SEALED",
        "rule_math--opcd--s0--abc",
        "suite.json",
    ]


def test_what_is_said_of_a_tasks_examples_is_as_said_last_and_of_other_tasks_stays(tmp_path):
    suite = SuiteDir(tmp_path / "quick")
    old, new = ({"test": [f"x {cluster}"]} for cluster in ("a", "b"))
    suite.merge({CLUSTERS: {"one": old, "two": old}, "floors": {"one": {"chance": 0.5}}})
    merged = suite.merge({CLUSTERS: {"one": new}, "floors": {"one": {"majority": 0.6}}})
    assert merged[CLUSTERS] == {"one": new, "two": old}
    assert merged["floors"] == {"one": {"majority": 0.6}}


def test_of_claims_the_last_ones_said_count_and_of_probes_the_last_one_asked_is_last(tmp_path):
    suite = SuiteDir(tmp_path / "quick")
    one, two, three = ({"protocol": number} for number in range(3))
    suite.merge({"claims": [{"text": "It is so.", "threshold": 0.05}], PREFIX_PROBE: [one]})
    suite.merge({PREFIX_PROBE: [two]})
    suite.merge({PREFIX_PROBE: [three]})
    said = [{"text": "It is so.", "threshold": 0.03}]
    merged = suite.merge({"claims": said, PREFIX_PROBE: [one]})
    assert merged["claims"] == said and merged[PREFIX_PROBE] == [two, three, one]


def test_shared_rows_are_stored_once_and_the_first_ones_stay(tmp_path: Path) -> None:
    shared = SuiteDir(tmp_path / "quick").shared("rule_math", "0123456789")
    assert not shared.has("base-test")
    assert shared.put("base-test", [{"reply": "1"}]) == [{"reply": "1"}]
    assert shared.put("base-test", [{"reply": "2"}]) == [{"reply": "1"}] == shared.get("base-test")
    assert shared.names() == ["base-test"]
    with pytest.raises(StoreError, match="not stored; there is base-test"):
        shared.get("ceiling-test")
    checked = subprocess.run(
        ["sha256sum", "-c", "base-test.sha256"], cwd=shared.path, capture_output=True
    )
    assert checked.stdout == b"base-test.jsonl.gz: OK\n"


@pytest.mark.parametrize("task", ["toy", "told-toy"])
def test_rows_of_a_lender_are_copied_and_what_is_made_is_given_to_it(tmp_path: Path, task) -> None:
    lender = SuiteDir(tmp_path / "lender")
    lender.merge({"name": "lender", "summary": ""})
    first, second = (SuiteDir(tmp_path / name, lender) for name in ("first", "second"))
    for suite in (first, second):
        suite.merge({"name": suite.path.name, "summary": ""})
    rows = [{"score": 0.1}, {"score": 1 / 3}]
    assert not first.shared(task, "0a").has("base")
    assert first.shared(task, "0a").put("base", rows) == rows
    second_rows = second.shared(task, "0a")
    assert second_rows.has("base") and not second_rows.path.exists(), "to ask takes nothing"
    assert second_rows.get("base") == rows
    alone = [SuiteDir(suite.path).shared(task, "0a") for suite in (lender, first, second)]
    assert len({one.file("base").read_bytes() for one in alone}) == 1
    assert [one.names() for one in alone] == [["base"]] * 3
    assert second.shared(task, "0a").put("base", [{"score": 1.0}]) == rows, "the first ones stay"
    assert not second.shared(task, "0b").has("base")
    assert not [problem for suite in (lender, first, second) for problem in verify(suite.path)]


def test_shared_rows_that_were_stored_plain_stay_so(tmp_path: Path) -> None:
    suite, rows = SuiteDir(tmp_path / "quick"), [{"reply": "1"}]
    suite.merge({})
    shared = suite.shared("rule_math", "abc")
    assert shared.file("base").name == "base.jsonl.gz"
    shared.path.mkdir(parents=True)
    plain, mark = shared.path / "base.jsonl", shared.path / "base.sha256"
    plain.write_bytes(joined(rows))
    mark.write_text(f"{hashlib.sha256(joined(rows)).hexdigest()}  base.jsonl\n")
    suite.merge({})  # which puts them on the list
    assert shared.get("base") == rows and verify(suite.path) == []
    plain.unlink()
    assert damage_of(suite.path) == [("missing", "base.jsonl")]
    mark.unlink()
    with pytest.raises(StoreError, match=r"base\.jsonl: was removed"):
        shared.put("base", [{"reply": "2"}])
    assert shared.put("base", rows) == rows and plain.is_file()
    assert verify(suite.path) == []


def test_shared_rows_without_their_checksum_do_not_count(tmp_path: Path) -> None:
    shared = SharedDir(tmp_path / "shared")
    shared.put("base", [{"reply": "1"}])
    (shared.path / "base.sha256").unlink()
    (shared.path / "base.jsonl").write_bytes(b'{"rep')
    assert not shared.has("base")
    assert [(p.kind, p.damage) for p in shared.problems()] == [("extra", False)]
    assert shared.put("base", [{"reply": "2"}]) == [{"reply": "2"}]


def test_processes_that_race_for_one_shared_name_all_read_the_same_rows(tmp_path: Path) -> None:
    shared = SharedDir(tmp_path / "shared")
    suite = SuiteDir(tmp_path / "suite")
    readers, children = [], []
    for number in range(8):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                rows = shared.put("base", [{"by": number}] * 50)
                suite.merge({"cells": [number]})
                os.write(writer, json.dumps(rows).encode())
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        readers.append(reader)
        children.append(child)
    answers = []
    for reader in readers:
        with os.fdopen(reader, "rb") as pipe:
            answers.append(pipe.read())
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    assert len(set(answers)) == 1 and json.loads(answers[0]) == shared.get("base")
    assert sorted(suite.read()["cells"]) == list(range(8))
    assert sorted(p.name for p in shared.path.iterdir()) == ["base.jsonl", "base.sha256"]


def test_verify_reads_a_suite_with_all_its_runs_and_shared_rows(tmp_path: Path) -> None:
    suite = SuiteDir(tmp_path / "reference" / "quick")
    suite.merge({})
    run = finished(suite.run("a"))
    begin(suite.run("b")).close()
    shared = suite.shared("rule_math", "abc")
    shared.put("base", [{"reply": "1"}])
    for where in (suite.path, tmp_path / "reference"):
        assert [(p.kind, p.path.name) for p in verify(where)] == [("unsealed", "b")]
    (run / "train.jsonl.gz").write_bytes(b"")
    shared.file("base").write_bytes(b'{"reply":"2"}\n')
    suite.path.joinpath("suite.json").write_text("[]")
    expected = [
        ("changed", "suite.json"),
        ("changed", "train.jsonl.gz"),
        ("changed", "base.jsonl.gz"),
    ]
    assert damage_of(suite.path) == expected
    with pytest.raises(StoreError, match=r"base\.jsonl\.gz: changed.*rm -r"):
        shared.get("base")
    assert damage_of(shared.path) == [("changed", "base.jsonl.gz")]
