"""Rescue against gain: which teacher a method learnt from, and the points."""

import math
import re

import pandas as pd
import pytest
from report_suite import describe, description, finish

from opcd_bench.report.analysis import groups, load, prefixes, rescue
from opcd_bench.report.analysis.rescue import learnt_from
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import rescue as figure
from opcd_bench.report.figures import style
from opcd_bench.report.page import probed, render
from opcd_bench.report.page.probed import Probed
from opcd_bench.runner import registry


def of(value, half=0.05):
    return Interval(value, value - half, value + half, 40)


def described(name):
    return registry.method(name).describe()


@pytest.mark.parametrize(
    ("method", "teacher"),
    [
        ("opcd_stop_gradient", "in-context"),
        ("opcd_stop_gradient[weights=larger]", "larger"),
        ("opcd_stop_gradient[reads=nothing,weights=larger]", "larger-no-context"),
        ("opcd_stop_gradient[by=grpo,weights=adapted]", "adapted-grpo"),
        ("opsd", "with-reference"),
        ("forward_kl_on_policy", "in-context"),
        ("sft_context", None),  # the teacher writes
        ("forward_kl", None),
        ("sft_then_opcd", None),  # and writes at first
        ("grpo", None),  # reads no teacher
        ("opcd_live", None),  # the teacher that was probed is not the one that it had
        ("control_shuffled", None),
    ],
)
def test_the_teacher_is_the_one_that_the_method_says_under_the_probes_name(method, teacher):
    assert learnt_from(described(method)) == teacher


def test_stages_count_where_they_learn_from_one_teacher_alone():
    one = description("opcd")
    stage = {key: one[key] for key in ("writer", "loss", "teacher")}
    assert learnt_from({**one, "begins": {"share": 0.5, **stage}}) == "in-context"
    larger = {**stage, "teacher": {**stage["teacher"], "weights": "larger"}}
    assert learnt_from({**one, "begins": {"share": 0.5, **larger}}) is None


def probe(*rows):
    """(method, teacher, share, rescue) of task rule_math."""
    known = {"task": "rule_math", "learning_rate": None, "step": 0, "seeds": 2}
    keys = ("method", "teacher", "share", "rescue")
    return pd.DataFrame(
        [{**known, **dict(zip(keys, row, strict=True))} for row in rows], columns=prefixes.COLUMNS
    )


def gains(**values):
    rows = [
        {
            "task": "rule_math", "measured": "test", "kind": "gain", "method": method,
            "control": method.startswith("control"), "learning_rate": 1e-3, "seeds": (0, 1),
            "value": value,
        }
        for method, value in values.items()
    ]  # fmt: skip
    rows += [{**row, "measured": "keep", "kind": "retention", "value": of(-0.3)} for row in rows]
    return pd.DataFrame(rows, columns=groups.GROUPS).astype({"control": bool})


LARGER = {**described("opcd_stop_gradient[weights=larger]"), "name": "big"}
DESCRIBED = {
    ("rule_math", name): one
    for name, one in {
        "opcd": described("opcd"), "big": LARGER, "again": LARGER, "grpo": described("grpo"),
        "control_null": described("opcd"),
    }.items()
}  # fmt: skip
PROBE = probe(
    ("base", "student", 0.25, of(0.0)), ("base", "in-context", 0.25, of(0.1)),
    ("base", "larger", 0.25, of(0.3)), ("base", "larger", 0.5, of(0.9)),
    ("opcd", "in-context", 0.25, of(0.7)),
)  # fmt: skip


def test_a_point_is_what_a_teacher_rescues_of_the_bases_responses_and_what_was_gained_from_it():
    of_methods = gains(opcd=of(0.2), big=of(0.1), again=of(0.15), grpo=of(0.5), control_null=of(0))
    frame = rescue.rescues(PROBE, of_methods, DESCRIBED)
    assert [
        (row.method, row.teacher, row.rescue.value, row.gain.value) for row in frame.itertuples()
    ] == [
        ("opcd", "in-context", 0.1, 0.2), ("big", "larger", 0.3, 0.1),
        ("again", "larger", 0.3, 0.15),
    ]  # fmt: skip


def test_one_teacher_is_no_comparison_and_what_was_not_probed_is_no_point():
    assert rescue.rescues(PROBE, gains(opcd=of(0.2)), DESCRIBED).empty
    assert rescue.rescues(PROBE, gains(big=of(0.2), again=of(0.2)), DESCRIBED).empty
    both = gains(opcd=of(0.2), big=of(0.1))
    assert rescue.rescues(PROBE[PROBE["teacher"] != "larger"], both, DESCRIBED).empty
    assert rescue.rescues(PROBE.iloc[:0], both, DESCRIBED).empty
    nothing = probe(("base", "in-context", 0.25, of(0.1)), ("base", "larger", 0.25, of(math.nan)))
    assert rescue.rescues(nothing, both, DESCRIBED).empty


def test_the_figure_and_its_line_say_every_teacher():
    frame = rescue.rescues(PROBE, gains(opcd=of(0.2), big=of(-0.1)), DESCRIBED)
    drawn = figure.drawn(frame, "rule_math", style.palette(["opcd", "big"]))
    assert list(drawn.data.columns) == figure.DATA and drawn.name == "rescue-rule_math"
    assert "in-context (OPCD) rescues +10.0 and taught +20.0" in drawn.alt
    assert figure.conclusion(frame, "rule_math") == (
        "rule_math, 2 teachers: larger rescues most (30.0 [25.0, 35.0] points); most was gained "
        "from in-context (20.0 [15.0, 25.0] points)."
    )


def test_the_line_names_no_teacher_that_may_as_well_be_another():
    frame = rescue.rescues(PROBE, gains(opcd=of(0.2), big=of(0.15), again=of(0.1)), DESCRIBED)
    assert figure.conclusion(frame, "rule_math").endswith(
        "; none is shown to have taught more than the others."
    )
    alike = frame.assign(rescue=[of(0.0)] * len(frame))
    assert figure.conclusion(alike, "rule_math").startswith(
        "rule_math, 2 teachers: none is shown to rescue more than the others; "
    )


def test_names_of_points_that_lie_together_stand_at_different_corners():
    frame = rescue.rescues(PROBE, gains(opcd=of(0.2), big=of(0.2), again=of(-0.3)), DESCRIBED)
    together = frame.assign(rescue=[of(0.1)] * 3)
    rows = figure.data(together, "rule_math").to_dict("records")
    assert figure.corners(rows) == [(1, 1), (1, -1), (1, 1)]


def test_a_long_name_gives_way_to_that_of_a_point_beside_it():
    """Three of faces_prefix: a name below its point would lie on the one above its neighbour."""
    names = ("in-context", "adapted-grpo-with-context", "larger")
    places = ((0.341, 0.502), (0.315, 0.596), (0.372, 0.705))
    rows = [
        {"teacher": name, "rescue": x, "gain": y, "rescue_low": x - 0.06, "rescue_high": x + 0.06,
         "gain_low": y - 0.13, "gain_high": y + 0.13}
        for name, (x, y) in zip(names, places, strict=True)
    ]  # fmt: skip
    rows.append({**rows[0], "teacher": "nobody", "rescue_low": -0.04, "gain_low": -0.05,
                 "rescue": -0.002, "gain": -0.009})  # fmt: skip
    assert figure.corners(rows) == [(1, 1), (1, 1), (1, 1), (1, 1)]
    # In one column it would leave the panel on its right.
    assert figure.corners(rows, narrow=True)[1][0] == -1


def test_the_page_tells_it_beside_the_probe_and_only_where_it_was_made(tmp_path, monkeypatch):
    suite = describe(tmp_path / "made")
    for method in ("opcd", "forward_kl"):
        finish(suite, method, 1e-3, 0)
    results = load.load(suite.path)
    assert 'id="rescue"' not in render.render(results, command="c")["index.html"].decode()
    teachers = {"opcd": "in-context", "forward_kl": "larger"}
    monkeypatch.setattr(rescue, "learnt_from", lambda one: teachers[one["name"]])
    frame = PROBE.assign(task="toy")
    monkeypatch.setattr(probed, "every", lambda _: [Probed("prefix", frame, [], [])])
    files = render.render(results, command="c")
    page = files["index.html"].decode()
    assert re.search(r'<section id="rescue".*?figures/rescue-toy\.svg', page, flags=re.DOTALL)
    assert page.index('id="rescue"') < page.index('id="probe-prefix"')
    assert files["data/rescue.csv"] and files["figures/rescue-toy.csv"]
