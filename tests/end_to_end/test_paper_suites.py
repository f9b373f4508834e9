"""`opcd-bench run --suite paper_… --size smoke`, as a user types it: so that no suite can rot."""

import json

import datasets
import pytest

from opcd_bench.store.run_reader import RunReader

CELLS = {
    "paper_math": 4,
    "paper_frozen_lake": 4,
    "paper_sokoban": 4,
    "paper_medical": 4,
    "paper_safety": 4,
    "paper_cross_size": 7,
    "paper_self_teacher_sokoban": 2,
    "paper_self_teacher_medical": 2,
    "paper_safety_cross_size": 6,
}
CHAINED = {"paper_test_time_math": 3, "paper_test_time_frozen_lake": 3, "paper_raw_traces": 1}
"""Suites whose cells make contexts of their own, as rounds."""


@pytest.fixture(autouse=True)
def without_hub(monkeypatch):
    """Nothing that a smoke size needs is on the Hub."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


DRAWN = ("paper_math", "paper_cross_size")
"""Whose page is rendered too, which takes as long as the run: with a larger teacher and without."""


@pytest.mark.parametrize("name", CELLS)
def test_the_smoke_size_of_a_paper_suite_runs_whole(opcd, tmp_path, name):
    page = [] if name in DRAWN else ["--no-report"]
    answer = opcd("run", "--suite", name, "--size", "smoke", *page)
    assert answer.code == 0, answer.err
    assert f"{CELLS[name]} of {CELLS[name]} cells done, 0 failed" in answer.out
    drawn = tmp_path / "reports" / f"{name}-smoke" / "index.html"
    assert drawn.is_file() == (name in DRAWN)
    folder = tmp_path / "results" / f"{name}-smoke"
    runs = [RunReader(path.parent) for path in sorted(folder.glob("*/config.json"))]
    assert len(runs) == CELLS[name]
    for run in runs:
        rows = run.read("train")
        assert [row["step"] for row in rows] == [1, 2]
        assert all(row["tokens"] > 0 and not row["skipped"] for row in rows)
        # Prompts fit the built-in model's window: none was refused, skipped or cut.
        assert all(row["overlong"] == row["failed"] == 0 for row in rows)
        final = [row for row in run.read("evals") if row["final"] and row["primary"]]
        assert {row["split"] for row in final} == {"test", "retention"}
        assert all(row["n"] > 0 and row["n_unscored"] == 0 for row in final)


@pytest.mark.parametrize("name", CHAINED)
def test_the_smoke_size_of_a_suite_that_makes_its_contexts_runs_whole(opcd, name):
    answer = opcd("run", "--suite", name, "--size", "smoke", "--no-report")
    assert answer.code == 0, answer.err
    assert f"{CHAINED[name]} of {CHAINED[name]} rounds done, 0 failed" in answer.out


def test_a_context_of_ones_own_gets_another_folder_than_the_smoke_run(opcd, tmp_path):
    """The README's last step: extracted lessons, told in a suite, keep apart from runs without."""
    (tmp_path / "lessons.txt").write_text("- EXPERIENCE ITEM: G is the goal.\n")
    words = ["run", "--suite", "paper_frozen_lake", "--size", "smoke", "--dry-run", "--json"]
    plain = json.loads(opcd(*words).out)
    told = json.loads(opcd(*words, "--context", "lessons.txt").out)
    assert plain["suite"]["name"] == "paper_frozen_lake-smoke"
    assert told["suite"]["name"].startswith("paper_frozen_lake-smoke-")
    names = [{cell["name"] for cell in one["cells"]} for one in (plain, told)]
    assert not names[0] & names[1]
