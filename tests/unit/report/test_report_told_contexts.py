"""Suites that differ in what teachers were told, side by side."""

import json

import pytest
from report_store import GOOD, cell, finished

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis.load import load
from opcd_bench.report.tables.told_contexts import sections, told_contexts
from opcd_bench.store.suite_dir import SuiteDir

BAD = {"t0": 0.0, "t1": 0.0, "t2": 0.0, "t3": 0.0}


def suite(tmp_path, name, test, *, method="opcd", rate=1e-3, seeds=1, protocol="p"):
    made = SuiteDir(tmp_path / name)
    made.merge({"name": name})
    for seed in range(seeds):
        finished(made, cell(method, rate=rate, seed=seed), test, protocol=protocol)
    return load(made.path)


def test_each_context_has_its_told_teacher_and_the_students_that_it_taught(tmp_path):
    one = suite(tmp_path, "lessons", GOOD, seeds=2)
    other = suite(tmp_path, "traces", BAD, seeds=2)
    table = told_contexts([one, other])
    assert list(table["context"]) == ["(none)", "lessons", "traces"]
    none, lessons, traces = table.to_dict("records")
    assert none["plain"].value == 0.25
    assert (lessons["told"].value, lessons["plain"].value, traces["plain"].value) == (0.75, 0.5, 0)
    assert lessons["plain - told"].value == -0.25
    assert lessons["taught by"] == "opcd, 0.001, 2 seeds"
    assert lessons["keep change"].value == 0.0


def test_only_what_all_suites_have_finished_is_compared(tmp_path):
    one = suite(tmp_path, "a", GOOD)
    finished(SuiteDir(one.root), cell("sft_context"), GOOD)
    table = told_contexts([load(one.root), suite(tmp_path, "b", BAD)])
    assert set(table["taught by"].dropna()) == {"opcd, 0.001, 1 seed"}


def test_nothing_in_common_and_other_protocols_are_refused(tmp_path):
    one = suite(tmp_path, "a", GOOD)
    with pytest.raises(StoreError, match="no method ran on the same task at the same learning"):
        told_contexts([one, suite(tmp_path, "b", GOOD, rate=1e-4)])
    with pytest.raises(StoreError, match=r"different protocols in a \(p\) and c \(q\)"):
        told_contexts([one, suite(tmp_path, "c", GOOD, protocol="q")])


def test_a_section_is_made_of_every_task(tmp_path):
    (made,) = sections(told_contexts([suite(tmp_path, "a", GOOD)]))
    assert made.title == "toy: what each context was worth"
    assert [row[0] for row in made.groups[0].rows] == ["(none)", "a"]


def test_the_command_prints_the_table_as_text_json_and_markdown(tmp_path, opcd):
    folders = [str(suite(tmp_path, name, scores).root) for name, scores in
               (("lessons", GOOD), ("traces", BAD))]  # fmt: skip
    out = tmp_path / "made.md"
    done = opcd("contexts", *folders, "--out", str(out))
    assert done.code == 0 and "toy: what each context was worth" in done.out
    lines = [line for line in out.read_text().splitlines() if line.startswith("| lessons")]
    assert len(lines) == 1 and "50.0" in lines[0]
    printed = json.loads(opcd("contexts", *folders, "--json").out)["contexts"]
    assert [row["context"] for row in printed] == ["(none)", "lessons", "traces"]
    assert printed[2]["plain"]["value"] == 0.0


def test_suites_that_differ_in_more_than_their_context_are_refused(tmp_path):
    one = suite(tmp_path, "a", GOOD)
    other = SuiteDir(tmp_path / "b")
    other.merge({"name": "b"})
    finished(other, cell("opcd", settings={"max_steps": 99, "dev_items": 4}), GOOD)
    with pytest.raises(StoreError, match="toy, opcd: a and b differ in other settings"):
        told_contexts([one, load(other.path)])
    SuiteDir(one.root).merge({"weights": "1"})
    with pytest.raises(StoreError, match=r"started from different weights \(weights\)"):
        told_contexts([load(one.root), suite(tmp_path, "c", GOOD)])


def test_contexts_by_name_alone_may_differ(tmp_path):
    folders = []
    for name in ("a", "b"):
        made = SuiteDir(tmp_path / name)
        made.merge({"name": name})
        one = cell("opcd")
        one["task"]["context_hash"] = name
        finished(made, one, GOOD)
        folders.append(load(made.path))
    assert len(told_contexts(folders)) == 3
