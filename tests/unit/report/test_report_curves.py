"""Training curves: what was logged, at which step and after how many tokens."""

import math

import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_frames import Suite

from opcd_bench.report.analysis import curves
from opcd_bench.report.figures import curves as figure
from opcd_bench.report.figures import style

KL = "reverse_kl_generalised"


def run(suite, method="good", seed=0, rate=1e-3, kind=KL, dev=None, **more):
    """Two steps of ten tokens each; dev before and after them."""
    values = {
        "student_tokens_trained": [10, 20],
        "eos_rate": [1.0, 0.75],
        "divergence": [0.5, 0.25],
        "divergence_kind": [kind, kind],
        "grad_norm": [2.0, 1.0],
    }
    dev = {0: [0.0, 0.0], 2: [1.0, 0.0]} if dev is None else dev
    return suite.cell(method, rate, seed, dev=dev, chosen=2, **{**values, **more})


def values(frame, metric):
    rows = frame[frame["metric"] == metric]
    return list(zip(rows["step"], rows["tokens"], rows["value"], strict=True))


def test_a_metric_stands_at_its_step_and_its_tokens():
    found = curves.curves(run(Suite()).results())
    assert values(found, "grad_norm") == [(1, 10, 2.0), (2, 20, 1.0)]


def test_dev_accuracy_begins_before_the_first_token():
    found = curves.curves(run(Suite()).results())
    assert values(found, "dev_accuracy") == [(0, 0, 0.0), (2, 20, 0.5)]


def test_what_did_not_end_was_truncated():
    found = curves.curves(run(Suite()).results())
    assert values(found, "truncation_rate") == [(1, 10, 0.0), (2, 20, 0.25)]
    assert values(found, "eos_rate") == [(1, 10, 1.0), (2, 20, 0.75)]


def test_a_divergence_says_which_it_is_and_nothing_else_does():
    found = curves.curves(run(Suite()).results())
    assert set(found.loc[found["metric"] == "divergence", "kind"]) == {KL}
    assert found.loc[found["metric"] != "divergence", "kind"].isna().all()


def test_a_negative_log_likelihood_is_no_divergence():
    suite = run(Suite(), "sft", kind="negative_log_likelihood")
    found = curves.curves(run(suite).results())
    assert set(found.loc[found["metric"] == "divergence", "method"]) == {"good"}
    assert set(found.loc[found["metric"] == "grad_norm", "method"]) == {"good", "sft"}


def test_what_a_run_did_not_log_has_no_row():
    """An older run beside a newer one, a step without a graded reply, a metric of no curve."""
    suite = run(Suite(), "new", leak=[0.1, 0.2], written_accuracy=[None, 0.5], overlong=[0, 0])
    found = curves.curves(run(suite, "old").results())
    assert set(found.loc[found["metric"] == "leak", "method"]) == {"new"}
    assert values(found, "written_accuracy") == [(2, 20, 0.5)]
    assert set(found["metric"]) <= set(curves.METRICS)


def test_what_is_not_finite_has_no_row():
    found = curves.curves(run(Suite(), grad_norm=[math.inf, 1.0]).results())
    assert values(found, "grad_norm") == [(2, 20, 1.0)]


def test_runs_of_the_sweep_stand_beside_those_of_the_headline_rate():
    suite = run(run(Suite(), seed=0), seed=1)
    found = curves.curves(run(suite, rate=1e-2).results())
    flags = found.groupby(["learning_rate", "seed"])["headline"].unique()
    assert flags.map(list).to_dict() == {(1e-3, 0): [True], (1e-3, 1): [True], (1e-2, 0): [False]}


def test_a_run_that_is_not_finished_is_drawn_as_far_as_it_came():
    suite = run(Suite(), state="not finished", dev={0: [0.0, 1.0]})
    found = curves.curves(suite.results())
    assert values(found, "dev_accuracy") == [(0, 0, 0.5)]
    assert values(found, "divergence") == [(1, 10, 0.5), (2, 20, 0.25)]
    assert not found["headline"].any()


def test_a_run_that_has_not_begun_to_train_has_its_base():
    found = curves.curves(Suite().cell("good", dev={0: [0.0, 1.0]}, state="not finished").results())
    assert values(found, "dev_accuracy") == [(0, 0, 0.5)]


def test_curves_come_in_the_order_of_the_metrics():
    found = curves.curves(run(Suite(), reply_length=[5.0, 6.0]).results())
    drawn = list(dict.fromkeys(found["metric"]))
    assert drawn == [name for name in curves.METRICS if name in drawn]
    assert drawn[:2] == ["dev_accuracy", "divergence"]


def test_nothing_run_gives_an_empty_frame_with_its_columns():
    found = curves.curves(Suite().results())
    assert found.empty and list(found) == curves.CURVES


@pytest.mark.parametrize("metric", curves.METRICS)
def test_every_curve_has_a_label_and_a_line_on_what_it_says(metric):
    label, says = curves.METRICS[metric]
    assert label and says.endswith(".")
    assert "surrogate" not in says


def long_run(steps=120, task="toy"):
    """`curves.CURVES` of one training before it is thinned: value and step are alike."""
    every = list(range(1, steps + 1))
    rows = pd.DataFrame(
        {"task": task, "method": "opcd", "learning_rate": 1e-3, "seed": 0, "headline": True,
         "step": every, "averaged_steps": 1, "tokens": [10 * step for step in every],
         "metric": "leak", "value": [float(step) for step in every], "kind": None}
    )  # fmt: skip
    dev = rows.iloc[:3].assign(metric="dev_accuracy", step=[0, steps // 2, steps], value=0.5)
    return pd.concat([rows, dev])


def test_lines_of_long_trainings_are_means_of_neighbouring_steps():
    rows = curves.thinned(long_run())
    leak = rows[rows["metric"] == "leak"]
    assert list(leak["step"]) == list(range(4, 121, 4))
    assert list(leak["value"]) == [step - 1.5 for step in leak["step"]]
    assert list(leak["tokens"]) == [10 * step for step in leak["step"]]
    assert set(leak["averaged_steps"]) == {4}
    kept = rows[rows["metric"] == "dev_accuracy"]
    assert list(kept["step"]) == [0, 60, 120] and set(kept["averaged_steps"]) == {1}
    assert list(rows) == curves.CURVES
    few = long_run(30)
    assert curves.thinned(few).equals(few)


def test_the_caption_says_what_a_point_is_of_the_mean():
    marks = style.palette(["opcd"])
    both = curves.thinned(pd.concat([long_run(), long_run(6, "short")]))
    assert "mean over 4 steps" in figure.drawn(both, "toy", marks).caption
    assert "mean over" not in figure.drawn(both, "short", marks).caption, "each task has its own"


def test_what_is_stored_is_thinned_in_the_comparison():
    suite = run(
        Suite(),
        student_tokens_trained=list(range(1, 32)),
        eos_rate=[1.0] * 31,
        divergence=[0.5] * 31,
        divergence_kind=[KL] * 31,
        grad_norm=[float(step) for step in range(31)],
    )
    found = curves.curves(suite.results())
    assert values(found, "grad_norm")[:2] == [(2, 2, 0.5), (4, 4, 2.5)]
    assert values(found, "grad_norm")[-1] == (31, 31, 30.0)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([2.0, 0.1, 1e-4], "log"),
        ([2.0, 0.1, 1e-13], "linear"),
        ([2.0, 0.1, 0.0], "linear"),
        ([2.0, 0.1, -1e-3], "linear"),
    ],
)
def test_a_log_axis_is_for_what_falls_and_not_for_rounding(values, scale):
    panel = Figure().add_subplot()
    figure._axes(panel, "divergence", pd.DataFrame({"value": values}), narrow=False)
    assert panel.get_yscale() == scale
