"""`opcd-bench probe prefix` in several processes, and what it says when one fails."""

from __future__ import annotations

import shutil

import pytest

from opcd_bench.report.analysis import prefixes
from opcd_bench.runner import probe_jobs
from opcd_bench.store.suite_dir import PREFIX_PROBE, SuiteDir

RUN = [
    "run", "--methods", "opcd_full", "--tasks", "rule_math", "--seeds", "2", "--max-steps", "1",
    "--batch-size", "2", "--retention", "none", "--name", "asked", "--no-report",
    "--set", "eval_steps=1", "--set", "dev_items=2", "--set", "test_items=2", "--set", "jobs=1",
    "--set", "max_completion_length=6", "--set", "threads=1",
    "--set", "keep_checkpoints=chosen", "--set", "choose=last",
]  # fmt: skip
PROBE = ["probe", "prefix", "asked", "--items", "2", "--continuations", "2"]


@pytest.fixture
def ran(opcd, tmp_path, tiny_model_folder):
    """Two sealed students of a suite."""
    answer = opcd(*RUN, "--model", str(tiny_model_folder))
    assert answer.code == 0, answer.err
    return tmp_path / "results" / "asked"


def of(folder):
    """What a probe stored: its rows in one order, its parts, and their files."""
    rows = prefixes.stored(folder)
    parts = sorted(map(str, SuiteDir(folder).read()[PREFIX_PROBE]))
    files = {
        path.relative_to(folder): path.read_bytes()
        for path in folder.glob("shared/prefix-*/**/*")
        if path.is_file()
    }
    return rows.sort_values(list(rows.columns)).reset_index(drop=True), parts, files


def test_two_processes_store_what_one_stores(opcd, ran):
    shutil.copytree(ran, ran.parent / "copy")
    assert opcd(*PROBE, "--set", "jobs=1").code == 0
    answer = opcd(*[word if word != "asked" else "copy" for word in PROBE], "--set", "jobs=2")
    assert answer.code == 0, answer.err
    (one, its_parts, its_files), (two, parts, files) = of(ran), of(ran.parent / "copy")
    assert len(one) > 0 and one.equals(two)
    assert parts == its_parts and files == its_files
    # Two students and two bases: each of four shares, and the teacher at each from both.
    assert len(parts) == 4 * (4 + 2 * 4)


def test_what_a_process_may_not_do_is_said_and_what_is_stored_stays(opcd, ran):
    (model,) = ran.glob("*--s1--*/checkpoints/*/model/*.safetensors")
    model.unlink()
    answer = opcd(*PROBE, "--set", "jobs=2")
    assert answer.code == 2 and str(model.parent) in answer.err and "Traceback" not in answer.err
    assert len(SuiteDir(ran).read()[PREFIX_PROBE]) >= 4


def test_what_ran_on_a_cluster_is_probed_in_one_process_here(opcd, ran, monkeypatch):
    SuiteDir(ran).merge({"cluster": "slurm", "jobs": 4})
    monkeypatch.setattr(probe_jobs, "LocalPool", None)
    answer = opcd(*PROBE)
    assert answer.code == 0, answer.err
    assert len(SuiteDir(ran).read()[PREFIX_PROBE]) == 4 * (4 + 2 * 4)
