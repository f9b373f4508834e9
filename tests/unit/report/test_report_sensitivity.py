"""The variance of gains over teachers, losses and seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_suite import describe, finish

from opcd_bench.report.analysis import load, sensitivity
from opcd_bench.report.analysis.sensitivity import SOURCES, sums_of_squares


def test_gains_of_one_source_have_it_all():
    teacher = np.zeros((3, 2, 4)) + np.array([0.1, 0.2, 0.6])[:, None, None]
    loss = np.zeros((3, 2, 4)) + np.array([0.1, 0.5])[None, :, None]
    seed = np.zeros((3, 2, 4)) + np.array([0.0, 0.1, -0.1, 0.0])[None, None, :]
    crossed = np.einsum("t,l->tl", [1.0, -1.0], [1.0, -1.0])[:, :, None] * np.ones((2, 2, 3))
    for gains, source in (
        (teacher, "teacher"), (loss, "loss"), (seed, "seed"), (crossed, "teacher x loss"),
    ):  # fmt: skip
        found = sums_of_squares(gains)
        assert found[source] == pytest.approx(((gains - gains.mean()) ** 2).sum())
        assert sum(found.values()) == pytest.approx(found[source])


@given(st.integers(2, 4), st.integers(2, 4), st.integers(1, 5), st.integers(0, 999))
def test_the_four_add_up_to_the_whole(teachers, losses, seeds, seed):
    gains = np.random.default_rng(seed).normal(size=(teachers, losses, seeds))
    found = sums_of_squares(gains)
    assert set(found) == set(SOURCES) and min(found.values()) >= 0
    assert sum(found.values()) == pytest.approx(((gains - gains.mean()) ** 2).sum())


def test_a_suite_without_a_grid_of_teachers_and_losses_has_no_rows(tmp_path):
    suite = describe(tmp_path / "made")
    for method in ("opcd", "forward_kl"):
        finish(suite, method, 1e-3, 0)
    assert sensitivity.sensitivity(load.load(suite.path)).empty


def test_a_grid_of_two_teachers_and_two_losses_has_four_rows(tmp_path, monkeypatch):
    import report_suite

    whole = report_suite.description

    def described(name):
        loss, weights = name.split("_")
        found = whole("opcd")
        return {
            **found, "name": name, "loss": {**found["loss"], "k": int(loss)},
            "teacher": {**found["teacher"], "weights": weights},
        }  # fmt: skip

    monkeypatch.setattr(report_suite, "description", described)
    names = [f"{k}_{weights}" for k in (4, 8) for weights in ("initial", "live")]
    suite = describe(tmp_path / "made", methods=names)
    for name in names:
        for seed in range(2):
            finish(suite, name, 1e-3, seed)
    frame = sensitivity.sensitivity(load.load(suite.path))
    assert list(frame["source"]) == list(SOURCES)
    assert set(frame["teachers"]) == set(frame["losses"]) == set(frame["seeds"]) == {2}
    assert frame["share"].sum() == pytest.approx(1.0)
