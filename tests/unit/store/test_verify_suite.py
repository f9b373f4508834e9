"""`verify` sees whatever was taken out of a suite, put into it, or changed, and nothing else."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from opcd_bench.errors import StoreError
from opcd_bench.store.files import temporary_beside
from opcd_bench.store.jsonl import packed
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.tidying import tidy
from opcd_bench.store.verification import verify

CONFIG, SAID = {"method": "opcd"}, {"methods": ["opcd"], "tasks": ["toy"]}
REFERENCE = Path(__file__).parents[3] / "results" / "reference"


def sealed(path, accuracy=0.25):
    with RunDir.open(path, CONFIG, {}) as run:
        run.train({"step": 1, "loss": 0.5})
        run.samples("test", [{"reply": "42"}])
        with run.checkpoint(1) as folder:
            (folder / "weights").write_bytes(b"1")
        run.seal({"accuracy": accuracy})
    return path


@pytest.fixture
def suite(tmp_path):
    """A suite with two sealed runs, shared rows and an external result."""
    made = SuiteDir(tmp_path / "results" / "reference" / "quick")
    made.merge({**SAID, "floors": {"toy": {"majority": 0.5}}})
    made.shared("toy", "abc").put("base", [{"reply": "1"}])
    sealed(made.run("a"))
    sealed(made.run("b"))
    made.put_external("stock", b"{}")
    assert verify(made.path) == []
    return made


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def linked(path):
    moved = path.rename(path.parents[1] / f"moved-{path.name}")
    path.symlink_to(moved)


DAMAGE = {
    "a deleted config": lambda root: (root / "a/config.json").unlink(),
    "a deleted seal": lambda root: (root / "a/DONE").unlink(),
    "a deleted run": lambda root: shutil.rmtree(root / "a"),
    "all of a run but its seal": lambda root: [
        shutil.rmtree(p) if p.is_dir() else p.unlink()
        for p in (root / "a").iterdir()
        if p.name != "DONE"
    ],
    "an edited summary": lambda root: edit(root / "a/DONE", "0.25", "0.95"),
    "edited floors": lambda root: edit(root / "suite.json", "0.5", "0.1"),
    "a deleted suite.json": lambda root: (root / "suite.json").unlink(),
    "a deleted shared folder": lambda root: shutil.rmtree(root / "shared"),
    "a deleted checksum": lambda root: (root / "shared/toy--abc/base.sha256").unlink(),
    "deleted shared rows": lambda root: (root / "shared/toy--abc/base.jsonl.gz").unlink(),
    "both of these": lambda root: shutil.rmtree(root / "shared/toy--abc"),
    "shared rows and their checksum changed": lambda root: (
        [
            (root / "shared/toy--abc").joinpath(name).unlink()
            for name in ("base.sha256", "base.jsonl.gz")
        ]
        and [
            (root / "shared/toy--abc/base.jsonl.gz").write_bytes(b""),
            (root / "shared/toy--abc/base.sha256").write_text(
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  base.jsonl.gz\n"
            ),
        ]
    ),
    "an edited external result": lambda root: (root / "external/stock.json").write_text("[]"),
    "a deleted external result": lambda root: (root / "external/stock.json").unlink(),
    "rows that are a link": lambda root: linked(root / "a/train.jsonl.gz"),
    "a seal that is a link": lambda root: linked(root / "a/DONE"),
    "samples that are a link": lambda root: linked(root / "a/samples"),
    "a run that is a link": lambda root: (
        shutil.move(root / "a", root.parent / "a"),
        (root / "a").symlink_to(root.parent / "a"),
    ),
    "shared rows that are a link": lambda root: linked(root / "shared/toy--abc/base.jsonl.gz"),
    "a checksum that is a link": lambda root: linked(root / "shared/toy--abc/base.sha256"),
    "a suite.json that is a link": lambda root: (
        (root / "suite.json").rename(root.parent / "x"),
        (root / "suite.json").symlink_to(root.parent / "x"),
    ),
    "a checkpoint's file that is a link": lambda root: linked(
        root / "a/checkpoints/step_000001/weights"
    ),
    "a stray temporary in a run": lambda root: (root / "a/.x.tmp").write_text("x"),
    "a stray folder's file in a run": lambda root: (
        (root / "a/.work.tmp").mkdir() or (root / "a/.work.tmp/x").write_text("x")
    ),
    "a list that is none": lambda root: (root / "SEALED").write_text("nothing\n"),
    "a line of the list changed": lambda root: edit(root / "SEALED", "  a/DONE", "  c/DONE"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_whatever_is_done_to_a_suite_is_seen(suite, name):
    DAMAGE[name](suite.path)
    assert any(problem.damage for problem in verify(suite.path)), name


def test_a_run_is_checked_against_its_suites_list_when_it_is_named_alone(suite):
    assert verify(suite.run("a")) == []
    edit(suite.run("a") / "DONE", "0.25", "0.95")
    assert [(p.kind, p.path.name) for p in verify(suite.run("a"))] == [("changed", "DONE")]
    assert verify(suite.run("b")) == []
    (suite.run("b") / "config.json").unlink()
    assert [(p.kind, p.path.name) for p in verify(suite.run("b"))] == [("missing", "config.json")]


def test_what_is_not_of_the_suite_is_a_remark(suite):
    (suite.path / ".x.tmp").write_text("mine")
    (suite.path / "notes.md").write_text("mine")
    (suite.run("a") / "checkpoints" / ".step_000002.tmp").mkdir()
    found = [(p.kind, p.path.name, p.damage) for p in verify(suite.path)]
    assert sorted(found) == [
        ("extra", ".step_000002.tmp", False),
        ("extra", ".x.tmp", False),
        ("extra", "notes.md", False),
    ]


def test_the_list_is_one_that_coreutils_read(suite):
    done = subprocess.run(["sha256sum", "-c", "SEALED"], cwd=suite.path, capture_output=True)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == [
        "a/DONE: OK",
        "b/DONE: OK",
        "external/stock.json: OK",
        "shared/toy--abc/base.jsonl.gz: OK",
        "suite.json: OK",
    ]


def test_a_suite_of_an_older_version_is_checked_as_ever_and_says_what_it_lacks(suite):
    (suite.path / "SEALED").unlink()
    assert [(p.kind, p.damage) for p in verify(suite.path)] == [("no list", False)]
    (suite.run("a") / "train.jsonl.gz").write_bytes(b"")
    assert [p.kind for p in verify(suite.path) if p.damage] == ["changed"]
    (suite.run("a") / "train.jsonl.gz").write_bytes(packed([{"loss": 0.5, "step": 1}]))
    sealed(suite.run("c"))  # a run that joins it gives it a list of all that is there
    assert verify(suite.path) == []
    (suite.run("a") / "DONE").unlink()
    assert any(p.damage for p in verify(suite.path))


def test_a_run_that_was_removed_and_is_made_anew_is_listed_anew(suite):
    shutil.rmtree(suite.run("a"))
    (problem,) = verify(suite.path)
    assert "put it back from a copy" in str(problem).lower() and "remove SEALED" in str(problem)
    run = RunDir.open(suite.run("a"), CONFIG, {})
    assert [(p.kind, p.damage) for p in verify(suite.path)] == [("unsealed", False)]
    run.seal({"accuracy": 0.5})
    assert verify(suite.path) == []


def test_what_was_changed_by_hand_is_not_blessed_by_the_next_run(suite):
    edit(suite.path / "suite.json", "0.5", "0.1")
    with pytest.raises(StoreError, match=r"suite\.json: was changed.*SEALED"):
        suite.merge({"tasks": ["other"]})
    assert any(p.damage for p in verify(suite.path))


def test_a_suite_json_that_is_gone_is_not_made_anew_without_its_floors(suite):
    (suite.path / "suite.json").unlink()
    with pytest.raises(StoreError, match="is gone, though the suite has runs"):
        SuiteDir(suite.path).merge(SAID)


def test_shared_rows_that_were_removed_come_back_the_same_or_not_at_all(suite):
    shared = suite.shared("toy", "abc")
    shutil.rmtree(shared.path)
    with pytest.raises(StoreError, match="measured now differs"):
        shared.put("base", [{"reply": "2"}])
    assert shared.put("base", [{"reply": "1"}]) == [{"reply": "1"}]
    assert verify(suite.path) == []


def test_two_lines_for_suite_json_are_a_kill_between_the_list_and_the_file(suite):
    with (suite.path / "SEALED").open("a") as file:
        file.write(f"{'0' * 64}  suite.json\n")
    assert verify(suite.path) == []
    suite.merge({"summary": "on"})
    assert verify(suite.path) == []
    assert (suite.path / "SEALED").read_text().count("suite.json") == 1


def test_a_folder_of_suites_is_checked_whole_and_one_of_such_folders_too(suite):
    for folder in (suite.path.parent, suite.path.parent.parent):
        assert verify(folder) == []
    shutil.rmtree(suite.run("a"))
    for folder in (suite.path.parent, suite.path.parent.parent):
        assert [p.kind for p in verify(folder)] == ["missing"]


def test_replies_of_a_told_teacher_that_only_train_may_go(suite):
    told = suite.shared("told-toy", "def")
    told.put("step_000001", [{"reply": "1"}])
    told.file("step_000001").write_bytes(b"")
    assert any(p.damage for p in verify(suite.path))
    shutil.rmtree(told.path)
    assert verify(suite.path) == []


def test_what_a_kill_left_in_sealed_runs_goes_when_the_suite_is_run_again(suite):
    run = suite.run("a")
    (run / "checkpoints" / ".step_000002.0a1b2c3d.opcd-bench.tmp").mkdir()
    shutil.copytree(run / "checkpoints/step_000001", run / "checkpoints/step_000003")
    temporary_beside(suite.path / "shared/toy--abc/base.jsonl.gz").write_text("half")
    (suite.path / ".mine.tmp").write_text("mine")
    remarks = verify(suite.path)
    assert not any(p.damage for p in remarks)
    assert {p.kind for p in remarks} == {"extra", "left over"}
    assert len(tidy(suite)) == 3
    assert [p.path.name for p in verify(suite.path)] == [".mine.tmp"]
    assert tidy(suite) == []


def test_what_a_kill_left_of_an_adapted_teacher_goes_too(suite):
    run = sealed(suite.path / "adapted" / "toy--grpo")
    (run / "checkpoints" / ".step_000002.0a1b2c3d.opcd-bench.tmp").mkdir()
    shutil.copytree(run / "checkpoints/step_000001", run / "checkpoints/step_000003")
    remarks = verify(suite.path)
    assert len(remarks) == 2 and not any(p.damage for p in remarks)
    assert len(tidy(suite)) == 2
    assert verify(suite.path) == [] and tidy(suite) == []
    assert [one.name for one in (run / "checkpoints").iterdir()] == ["step_000001"]


def test_nothing_that_is_being_written_is_tidied(suite, monkeypatch):
    real, seen = os.replace, []

    def replace(source, target):
        seen.append((Path(source).name, tidy(suite)))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with RunDir.open(suite.run("c"), CONFIG, {}) as run:
        with run.checkpoint(1) as folder:
            (folder / "weights").write_bytes(b"1")
            assert tidy(suite) == []
        run.samples("test", [{"reply": "1"}])
    assert len(seen) >= 4 and all(removed == [] for _, removed in seen)


@pytest.mark.parametrize(
    "name",
    [path.parent.relative_to(REFERENCE).as_posix() for path in REFERENCE.rglob("suite.json")],
)
def test_every_reference_suite_has_its_list_and_holds(name):
    assert (REFERENCE / name / "SEALED").is_file()
    assert {problem.kind for problem in verify(REFERENCE / name)} <= {"no checkpoint"}


def test_what_a_seal_says_is_what_is_read(suite):
    done = json.loads((suite.run("a") / "DONE").read_text())
    assert done["summary"] == {"accuracy": 0.25}
