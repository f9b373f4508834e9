"""What is read of a sealed run is what was sealed, or one message that names the file."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from opcd_bench.errors import StoreError
from opcd_bench.runner.refusals import damaged
from opcd_bench.runner.time_shares import time_shares
from opcd_bench.store.jsonl import read_object, read_rows
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SharedDir, SuiteDir
from opcd_bench.store.verification import verify

EVERYTHING = ("train", "evals", "timing", "events", "samples/test")
DEEP = '{"a":' + "[" * 100_000


@pytest.fixture
def sealed(tmp_path):
    """A sealed run in a suite."""
    suite = SuiteDir(tmp_path / "suite")
    suite.merge({"name": "suite", "summary": "", "methods": ["m"]})
    with RunDir.open(suite.run("run"), {"seed": 0}, {"host": "h"}) as run:
        run.train({"step": 1, "loss": 0.5})
        run.eval({"step": 1, "value": 0.5})
        run.timing({"step": 1, "seconds": 1.0})
        run.samples("test", [{"id": "a"}, {"id": "b"}])
        run.seal({"chosen_step": 1})
    return suite.run("run")


def read_all(path):
    """All that readers ask of a run."""
    reader = RunReader(path)
    return (
        reader.config, reader.environment, reader.summary,
        *(reader.read(name) for name in (*EVERYTHING, *map("samples/{}".format,
                                                          reader.sample_names()))),
    )  # fmt: skip


def emptied(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def other(path):
    path.write_text('{"step": 2}\n')


def deep(path):
    path.write_text(DEEP)


def test_damaged_times_are_warned_of_and_are_no_runs_end(sealed):
    cut(sealed / "timing.jsonl.gz")
    (warned,) = damaged(SuiteDir(sealed.parent))
    assert "timing.jsonl.gz: changed" in warned and "The other runs go on meanwhile" in warned
    assert time_shares([RunReader(sealed)]) is None


def gone(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def linked(path):
    path.rename(path.parent.parent / "elsewhere")
    os.symlink(path.parent.parent / "elsewhere", path)


@pytest.mark.parametrize("damage", [emptied, cut, other, deep, gone, folder, linked])
@pytest.mark.parametrize(
    "name",
    ["config.json", "environment.json", "DONE", "train.jsonl.gz", "evals.jsonl.gz",
     "timing.jsonl.gz", "events.jsonl", "samples/test.jsonl.gz"],
)  # fmt: skip
def test_a_damaged_file_is_named_and_not_read(sealed, name, damage):
    assert read_all(sealed)
    damage(sealed / name)
    if name == "DONE" and damage in (gone, folder):
        return  # no longer a sealed run: there is nothing to check it against but the suite's list
    with pytest.raises(StoreError, match=name.split("/")[-1]):
        read_all(sealed)
    assert any(problem.damage for problem in verify(sealed))


def test_the_folder_of_samples_that_is_gone_is_not_a_run_without_samples(sealed):
    shutil.rmtree(sealed / "samples")
    with pytest.raises(StoreError, match=r"test\.jsonl\.gz: missing, and the run is sealed"):
        read_all(sealed)


@pytest.mark.parametrize("values", [{}, {"summary": None}, {"summary": []}])
def test_a_seal_without_a_summary_is_one_message_where_no_list_has_it(sealed, values):
    (sealed.parent / "SEALED").unlink()
    (sealed / "DONE").write_text(json.dumps(values))
    with pytest.raises(StoreError, match="DONE: changed: this is no longer a seal"):
        _ = RunReader(sealed).summary


@pytest.mark.parametrize("damage", [emptied, cut, deep, gone, folder, linked])
def test_suite_json_is_not_read_where_it_was_changed(sealed, damage):
    suite = SuiteDir(sealed.parent)
    assert suite.read()["name"] == "suite"
    damage(suite.path / "suite.json")
    with pytest.raises(StoreError, match=r"suite\.json: (was changed|is gone|Is a directory)"):
        suite.read()


def test_suite_json_is_read_while_another_process_changes_it(sealed, monkeypatch):
    """The list has what suite.json becomes before it becomes that; the list is read again."""
    from opcd_bench.store import suite_list

    suite, real = SuiteDir(sealed.parent), suite_list.read
    merged = iter([True])

    def read(root):
        before = real(root)
        if next(merged, False):
            suite.merge({"later": 1})
        return before

    monkeypatch.setattr(suite_list, "read", read)
    assert suite.read()["later"] == 1


def test_an_empty_list_of_sealed_parts_is_damage(sealed):
    (sealed.parent / "SEALED").write_bytes(b"")
    assert [p.path.name for p in verify(sealed.parent) if p.damage] == ["SEALED"]


def test_shared_rows_that_are_gone_are_one_message(tmp_path):
    with pytest.raises(StoreError, match=r"a\.jsonl\.gz: not stored; there is nothing"):
        SharedDir(tmp_path / "shared" / "t--0").get("a")


def test_json_nested_beyond_python_is_damage(tmp_path):
    for read in (read_object, read_rows):
        (tmp_path / "a").write_text(DEEP + "\n")
        with pytest.raises(StoreError, match="recursion"):
            read(tmp_path / "a")
