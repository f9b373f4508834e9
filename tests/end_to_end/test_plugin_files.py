"""A method and a task by their files: two processes run them, a second call resumes, one moves."""

from __future__ import annotations

import json
import shutil

import pytest
from command_line import opcd

from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.verification import verify

SMALL = [
    "--max-steps", "2", "--batch-size", "2", "--retention", "none", "--name", "small",
    "--no-report", "--set", "eval_steps=1", "--set", "dev_items=2", "--set", "test_items=3",
    "--set", "max_completion_length=6", "--set", "threads=1",
]  # fmt: skip

METHOD = '''"""A method of one's own that prints as it is imported."""

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import STUDENT, Method

print("hello from mine")
METHOD = Method(
    name="mine",
    summary="Reverse KL with a tail bucket.",
    source="a test",
    writer=STUDENT,
    loss=named("rkl_tail", k=16),
)
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a method in it, and the scaffold of a task."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(METHOD)
    assert opcd("new", "task", "codes") == 0
    return tmp_path


def finished(folder):
    """Name of each sealed run -> the bytes of its training rows."""
    paths = sorted(path.parent for path in folder.glob("results/small/*/config.json"))
    return {
        path.name: (path / "train.jsonl.gz").read_bytes()
        for path in paths
        if RunReader(path).sealed
    }


def test_a_file_with_a_parameter_runs_in_two_processes_resumes_and_moves(
    here, tiny_model_folder, capfd
):
    words = ["run", "--methods", "./mine.py[k=4],opcd[k=4]", "--tasks", "./codes.py",
             "--model", str(tiny_model_folder), *SMALL]  # fmt: skip
    assert opcd(*words, "--jobs", "2", "--json") == 0
    told = capfd.readouterr()
    answer = json.loads(told.out)  # what the file prints as it is imported is not in it
    assert (answer["done"], answer["failed"]) == (2, 0), told.err
    assert "mine[k=4]" in answer["table"] and "opcd[k=4]" in answer["table"]
    assert "hello from mine" in told.err
    first = finished(here)
    names = sorted(name.rsplit("--", 1)[0] for name in first)
    assert names == ["codes--mine-k4--lr1e-03--s0", "codes--opcd-k4--lr1e-03--s0"]
    (mine,) = (here / "results/small" / name for name in first if "mine" in name)
    config = RunReader(mine).config
    assert config["method"]["name"] == "mine[k=4]" and config["method"]["loss"]["k"] == 4
    assert len(config["method"]["source_hash"]) == len(config["task"]["source_hash"]) == 10
    assert str(here) not in json.dumps(config) and "mine.py" not in json.dumps(config)
    assert all(not problem.damage for problem in verify(here / "results" / "small"))

    times = {path: path.stat().st_mtime_ns for path in here.glob("results/small/*/DONE")}
    (here / "deep").mkdir()
    shutil.move("mine.py", "deep/mine.py")
    shutil.move("codes.py", "deep/codes.py")
    words[2], words[4] = "opcd[k=4],deep/mine.py[k=4]", str(here / "deep/codes.py")
    assert opcd(*words) == 0
    assert "2 of 2 cells done, 0 failed" in capfd.readouterr().out
    assert finished(here) == first
    assert {path: path.stat().st_mtime_ns for path in times} == times

    shutil.rmtree(mine)  # as if that run had not been made yet: the other one is kept
    assert opcd(*words, "--jobs", "2") == 0
    assert finished(here) == first

    (here / "deep/mine.py").write_text(METHOD.replace("hello", "good day"))
    assert opcd(*words) == 2  # an edited file is another method, and one table must not mix them
    assert "method.source_hash" in capfd.readouterr().err
    assert finished(here) == first


def test_a_suite_file_names_files_beside_it_and_estimates_them(here, tiny_model_folder, capfd):
    (here / "suites").mkdir()
    shutil.move("mine.py", "suites/mine.py")
    (here / "suites/s.toml").write_text(
        'methods = ["./mine.py[k=4]", "opcd"]\ntasks = ["rule_math"]\nmax_steps = 2\n'
        f'retention = []\neval_steps = 1\nmodel = "{tiny_model_folder}"\n'
    )
    assert opcd("run", "--suite", "suites/s.toml", "--dry-run") == 0
    assert "rule_math--mine-k4--" in capfd.readouterr().out
    assert opcd("estimate", "--suite", "suites/s.toml", "--json") == 0
    out = capfd.readouterr().out
    assert json.loads(out)["tasks"][0]["work"]["cells"] == 2
