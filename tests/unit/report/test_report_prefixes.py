"""The prefix probe's numbers, by hand, and their tables and figure."""

import numpy as np
import pandas as pd
import pytest

from opcd_bench.report.analysis import prefixes
from opcd_bench.report.analysis.prefixes import STUDENT
from opcd_bench.report.figures import prefixes as figure
from opcd_bench.report.page import probed
from opcd_bench.report.tables.prefixes import sections
from opcd_bench.store.suite_dir import PREFIX_PROBE, SuiteDir

EXAMPLES = 8
PROTOCOL = {"split": "dev", "items": EXAMPLES, "continuations": 4, "temperature": 1.0}


def part(suite, writer, whose, share, scores, method="opcd", protocol=PROTOCOL):
    """Rows of a part: of example i, ``scores[i]`` of four continuations are right."""
    shared = suite.shared("prefix-toy", f"{writer}-{whose}-{share}-{method}")
    rows = [
        {
            "example_id": f"e{at}", "sample": sample, "score": float(sample < right),
            "first_outcome": "correct" if at < 2 else ("wrong", "truncated")[at % 2],
        }
        for at, right in enumerate(scores)
        for sample in range(4)
    ]  # fmt: skip
    shared.put("from", rows)
    student = {"name": "r", "task": "toy", "method": method, "learning_rate": 1e-4, "seed": 0,
               "step": 5}  # fmt: skip
    row = {
        "student": student, "task": "toy", "writer": writer, "prefixes": whose, "share": share,
        "protocol": protocol, "shared": shared.path.name, "name": "from",
    }  # fmt: skip
    suite.merge({PREFIX_PROBE: [row]})


@pytest.fixture
def suite(tmp_path):
    suite = SuiteDir(tmp_path / "results" / "toy")
    suite.merge({"name": "toy", "summary": ""})
    for share, told in ((0.0, [4] * 8), (0.5, [4, 4, 2, 2, 2, 2, 0, 0])):
        part(suite, STUDENT, "student", share, [4, 4, 1, 1, 1, 1, 1, 1])
        part(suite, "told", "student", share, told)
        part(suite, "told", "own", share, [4] * 8)
    return suite


def test_the_rescue_rate_is_what_the_teacher_turns_right_less_the_students_own_luck(suite):
    frame = prefixes.prefixes(prefixes.stored(suite.path))
    at = {(row.teacher, row.share): row for row in frame.itertuples()}
    half = at["told", 0.5]
    assert half.accuracy.value == pytest.approx((4 + 4 + 2 * 4) / 32)
    assert half.own.value == 1.0
    assert half.mismatch.value == pytest.approx(0.5 - 1.0)
    assert half.wrong.value == pytest.approx(6 / 8)
    assert half.turned.value == pytest.approx(8 / 24)
    assert half.luck.value == pytest.approx(6 / 24)
    assert half.rescue.value == pytest.approx(2 / 24)
    assert half.rescue.n == 6 and half.rescue.low < half.rescue.value < half.rescue.high
    assert at["told", 0.0].mismatch.value == 0.0
    assert at[STUDENT, 0.5].rescue.value == 0.0


def test_a_probe_that_was_asked_otherwise_before_stands_in_no_mean_with_this_one(suite):
    before = prefixes.prefixes(prefixes.stored(suite.path))
    other = {**PROTOCOL, "continuations": 8}
    for writer, whose in ((STUDENT, "student"), ("told", "student"), ("told", "own")):
        part(suite, writer, whose, 0.25, [4] * 8, protocol=other)
    frame = prefixes.prefixes(prefixes.stored(suite.path))
    assert set(before["share"]) == {0.0, 0.5} and set(frame["share"]) == {0.25}


def test_a_probe_that_was_interrupted_shows_what_is_whole(suite):
    part(suite, STUDENT, "student", 0.75, [4] * 8)
    part(suite, "told", "student", 0.75, [4] * 8)
    frame = prefixes.prefixes(prefixes.stored(suite.path))
    told = frame[frame["teacher"] == "told"]
    assert list(told["share"]) == [0.0, 0.5]


def test_a_suite_without_a_probe_has_no_table(tmp_path):
    suite = SuiteDir(tmp_path / "none")
    suite.merge({"name": "none", "summary": ""})
    found = probed.probed(suite.path, "prefix")
    assert found.frame.empty and found.sections == [] and found.drawn == []


def test_the_table_and_the_figure_hold_every_teacher_and_share(suite):
    frame = prefixes.prefixes(prefixes.stored(suite.path))
    (section,) = sections(frame)
    lines = [line for group in section.groups for line in group.rows]
    assert [line[:2] for line in lines] == [
        (STUDENT, "0%"), (STUDENT, "50%"), ("told", "0%"), ("told", "50%"),
    ]  # fmt: skip
    drawn = figure.drawn(frame, "toy")
    assert len(drawn.data) == 4 and ".svg" in drawn.files
    assert "told: 50.0 % after 50%" in drawn.alt


def test_tables_and_figures_are_written_beside_the_report(suite, tmp_path):
    found = probed.probed(suite.path, "prefix")
    written = probed.write(found, suite.path, None)
    folder = tmp_path / "reports" / "toy-prefix"
    assert written.page.parent.resolve() == folder.resolve()
    assert (folder / "prefix.md").is_file() and (folder / "prefix.csv").is_file()
    assert (folder / "figures" / "prefixes-toy.svg").is_file()
    assert not probed.write(found, suite.path, None).changed


def continued(first, right):
    """Rows of one share: by seed and example, a first outcome, and how many of four are right."""
    return pd.DataFrame(
        [
            {"seed": seed, "example_id": at, "sample": sample, "score": float(sample < n),
             "first_outcome": "wrong" if wrong else "correct"}
            for seed, (wrongs, rights) in enumerate(zip(first, right, strict=True))
            for at, (wrong, n) in enumerate(zip(wrongs, rights, strict=True))
            for sample in range(4)
        ]
    )  # fmt: skip


def test_each_wrong_response_counts_once_however_often_its_example_is_wrong():
    first = [[1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    right = [[0, 4, 4, 4, 4], [0, 4, 4, 4, 4], [0, 4, 4, 0, 0]]
    given = continued(first, right)
    found = prefixes._row(given, given, continued(first, [[0] * 5] * 3))
    assert found["turned"].value == pytest.approx(2 / 7)
    assert found["rescue"].value == pytest.approx(2 / 7) and found["luck"].value == 0.0
    assert found["luck"].high > 0.0, "none of four examples may be some elsewhere"


def test_what_a_teacher_turns_of_its_own_wrong_responses_stands_beside():
    given = continued([[1, 1, 0, 0]], [[0, 4, 4, 4]]).assign(share=0.5)
    own = continued([[0, 1, 0, 1]], [[4, 4, 4, 2]]).assign(share=0.5)
    found = prefixes._row(given, own, given)
    assert found["turned"].value == 0.5 and found["own_turned"].value == 0.75
    from_nothing = prefixes._row(given, own.assign(share=0.0), given)
    assert np.isnan(from_nothing["own_turned"].value)
    assert np.isnan(prefixes._row(given, given, given)["own_turned"].value)


def test_the_interval_of_a_rescue_holds_what_it_says():
    rng, held, halves = np.random.default_rng(1), [], []
    for _ in range(120):
        easy = rng.uniform(size=80)
        first = rng.uniform(size=(3, 80)) > easy
        right = rng.binomial(4, 0.5 * easy, size=(3, 80))
        luck = rng.binomial(4, 0.2 * easy, size=(3, 80))
        given = continued(first, right)
        found = prefixes._row(given, given, continued(first, luck))["rescue"]
        held.append(found.low < 0.3 / 3 < found.high)  # E[.3 x (1 - x)] / E[1 - x] = .1
        halves.append(found.value)
    assert np.mean(halves) == pytest.approx(0.1, abs=0.01)
    assert np.mean(held) > 0.9


def test_what_is_lost_is_paired_by_seed_and_example():
    given = continued([[1, 1], [1, 1]], [[4, 0], [2, 2]]).assign(teacher="told", prefixes="student")
    own = continued([[1, 1], [1, 1]], [[4, 4], [4, 2]]).assign(teacher="told", prefixes="own")
    lost = prefixes.lost(pd.concat([given, own]), "told")
    assert list(lost["score"]) == [0.0, -1.0, -0.5, 0.0]
    assert prefixes.lost(given, "told").empty
