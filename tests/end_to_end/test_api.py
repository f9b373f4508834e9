"""`opcd_bench.run` on a tiny model: what it trains is what is stored, shown and read again."""

import json
import subprocess
import sys

import pandas as pd
import pytest

import opcd_bench
from opcd_bench.errors import CellFailed
from opcd_bench.runner.cell import CellRun

SMALL = {
    "max_steps": 2, "batch_size": 2, "eval_steps": 1, "dev_items": 2, "test_items": 3,
    "max_completion_length": 6, "retention": ["told_other"], "retention_items": 2, "threads": 1,
    "tasks": ["frozen_lake"], "jobs": 1, "name": "small", "quiet": True,
}  # fmt: skip
FRAMES = ("headline", "samples", "curves", "training")


@pytest.fixture
def small(tmp_path, monkeypatch, tiny_model_folder):
    monkeypatch.chdir(tmp_path)
    return {**SMALL, "model": tiny_model_folder}


def test_a_run_gives_what_is_stored_and_shown(small, opcd):
    results = opcd_bench.run(methods=["opcd", "sft_context"], **small)
    assert list(results.headline["method"]) == ["opcd", "sft_context"]
    assert set(results.headline["state"]) == {"done"} and results.failed == ()

    shown = json.loads(opcd("show", "results/small", "--json").out)["table"]
    for row, told in zip(results.headline.to_dict("records"), shown, strict=True):
        assert row["accuracy"] == told["plain"]["value"]
        assert row["told_other_change"] == told["told_other change"]["value"]
        assert row["tokens_scored"] == told["tokens scored"]
    assert list(results.curves["step"].unique()) == [0, 1, 2]
    assert results.curves["told_other"].notna().all()
    assert len(results.training) == 2 * 2

    again = opcd_bench.load_results("results/small")
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(results, name))

    shown = results.side_by_side(method="sft_context")
    assert shown.method == "sft_context" and shown.prompt in repr(shown)
    assert "sft_context" in results.report().read_text()

    # The same call has nothing left to train, and one more method joins the folder.
    files = {path: path.stat().st_mtime_ns for path in results.path.rglob("DONE")}
    more = opcd_bench.run(methods=["opcd", "jsd"], **small)
    assert set(more.headline["method"]) >= {"opcd", "jsd", "sft_context"}
    assert files == {path: path.stat().st_mtime_ns for path in files}


def test_a_failed_cell_is_a_warning_and_stands_in_the_results(small, monkeypatch):
    trained = CellRun.run

    def run(cell):
        if cell.cell.method == "jsd":
            raise CellFailed("a reason that the record keeps")
        trained(cell)

    monkeypatch.setattr(CellRun, "run", run)
    with pytest.warns(RuntimeWarning, match="1 of 2 cells failed"):
        results = opcd_bench.run(methods=["jsd", "opcd"], **small)
    (failed,) = results.failed
    assert (failed.method, failed.reason) == ("jsd", "a reason that the record keeps")
    states = results.headline.set_index("method")["state"]
    assert states["opcd"] == "done" and states["jsd"].startswith("failed")


def test_a_script_needs_no_guard_for_the_workers_that_it_starts(small, tmp_path):
    """Workers import the main module of who starts them; here that would run the suite again."""
    given = {**small, "model": str(small["model"]), "jobs": 2, "retention": []}
    (tmp_path / "script.py").write_text(
        "import opcd_bench\n"
        f"results = opcd_bench.run(methods=['opcd', 'sft_context'], **{given!r})\n"
        "print(list(results.headline['state']))\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "['done', 'done']\n", done.stderr
