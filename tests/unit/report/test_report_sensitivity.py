"""The variance of gains over teachers, losses and seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_suite import describe, finish
from scipy import stats

from opcd_bench.report.analysis import load, sensitivity
from opcd_bench.report.analysis.sensitivity import (
    ERRORS,
    SOURCES,
    degrees,
    shares,
    sums_of_squares,
)
from opcd_bench.report.tables import sensitivity as table


def shares_of(gains):
    return shares(sums_of_squares(gains), degrees(gains))


def test_gains_of_one_source_have_it_all():
    teacher = np.zeros((3, 2, 4)) + np.array([0.1, 0.2, 0.6])[:, None, None]
    loss = np.zeros((3, 2, 4)) + np.array([0.1, 0.5])[None, :, None]
    seed = np.zeros((3, 2, 4)) + np.array([0.0, 0.1, -0.1, 0.0])[None, None, :]
    crossed = np.einsum("t,l->tl", [1.0, -1.0], [1.0, -1.0])[:, :, None] * np.ones((2, 2, 3))
    luck = np.einsum("t,s->ts", [1.0, -1.0], [1.0, -1.0, 0.0])[:, None] * np.ones((2, 2, 3))
    for gains, source in (
        (teacher, "teacher"), (loss, "loss"), (seed, "seed"), (crossed, "teacher x loss"),
        (luck, "teacher x seed"),
    ):  # fmt: skip
        found = sums_of_squares(gains)
        assert found[source] == pytest.approx(((gains - gains.mean()) ** 2).sum())
        assert sum(found.values()) == pytest.approx(found[source])
        if source in ERRORS:
            assert shares_of(gains)[source] == pytest.approx(1.0)


@given(st.integers(2, 4), st.integers(2, 4), st.integers(2, 5), st.integers(0, 999))
def test_the_parts_add_up_to_the_whole(teachers, losses, seeds, seed):
    gains = np.random.default_rng(seed).normal(size=(teachers, losses, seeds))
    found = sums_of_squares(gains)
    assert {*ERRORS, *ERRORS.values()} <= set(found) and min(found.values()) >= 0
    assert sum(found.values()) == pytest.approx(((gains - gains.mean()) ** 2).sum())
    assert sum(degrees(gains).values()) == gains.size - 1
    assert tuple(shares_of(gains)) == SOURCES and sum(shares_of(gains).values()) == pytest.approx(1)


def test_what_seeds_alone_add_to_a_source_is_the_seed_s():
    rng = np.random.default_rng(0)
    found = [shares_of(rng.normal(size=(3, 4, 3))) for _ in range(400)]
    means = {source: np.mean([one[source] for one in found]) for source in SOURCES}
    assert means["seed"] == pytest.approx(1.0, abs=0.03)
    assert all(abs(means[source]) < 0.02 for source in SOURCES[:-1])
    assert all(np.isnan(value) for value in shares_of(np.zeros((2, 2, 2))).values())


def p_of(source, gains):
    return sensitivity._p(source, sums_of_squares(gains), degrees(gains))


def test_a_teachers_luck_with_its_seeds_is_no_evidence_for_the_teacher():
    """Five of a hundred of 3 x 4 x 3 grids are called sure where a seed's teacher is shared."""
    rng = np.random.default_rng(0)
    sure = {"teacher": 0, "loss": 0, "teacher x seed": 0}
    for _ in range(1000):
        gains = rng.normal(size=(3, 4, 3)) + 2.0 * rng.normal(size=(3, 1, 3))
        gains += rng.normal(size=(1, 1, 3))
        for source in sure:
            sure[source] += p_of(source, gains) < 0.05
    assert 30 <= sure["teacher"] <= 70 and 30 <= sure["loss"] <= 70
    assert sure["teacher x seed"] > 900


def test_the_share_is_epsilon_squared_and_p_that_of_the_f_test():
    gains = np.random.default_rng(1).normal(size=(2, 3, 4)) + np.array([0.0, 2.0])[:, None, None]
    means = gains.mean(axis=1)
    squares = 3 * 4 * ((gains.mean(axis=(1, 2)) - gains.mean()) ** 2).sum()
    left = means - means.mean(axis=0) - means.mean(axis=1)[:, None] + means.mean()
    noise = 3 * (left**2).sum() / 3
    whole = ((gains - gains.mean()) ** 2).sum()
    assert shares_of(gains)["teacher"] == pytest.approx((squares - noise) / whole)
    # Of two teachers: a paired t test over the seeds' means.
    assert p_of("teacher", gains) == pytest.approx(stats.ttest_rel(*means).pvalue)
    assert np.isnan(p_of("seed", gains))


def test_a_suite_without_a_grid_of_teachers_and_losses_has_no_rows(tmp_path):
    suite = describe(tmp_path / "made")
    for method in ("opcd", "forward_kl"):
        finish(suite, method, 1e-3, 0)
    assert sensitivity.sensitivity(load.load(suite.path)).empty


def crossed(tmp_path, monkeypatch, seeds):
    """A suite of two teachers and two losses."""
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
        for seed in range(seeds):
            finish(suite, name, 1e-3, seed)
    return suite


def test_a_grid_of_two_teachers_and_two_losses_has_a_row_a_source(tmp_path, monkeypatch):
    suite = crossed(tmp_path, monkeypatch, seeds=2)
    frame = sensitivity.sensitivity(load.load(suite.path))
    assert list(frame["source"]) == list(SOURCES)
    assert set(frame["teachers"]) == set(frame["losses"]) == set(frame["seeds"]) == {2}
    assert frame["share"].sum() == pytest.approx(1.0)
    (line,) = table.conclusions(frame)
    assert "toy: " in line and "between seeds" in line
    (section,) = table.sections(frame)
    assert section.columns[-1] == "p" and section.groups[0].rows[-1][-1] == ""


def test_one_seed_has_no_rows_since_it_says_nothing_of_the_seed(tmp_path, monkeypatch):
    suite = crossed(tmp_path, monkeypatch, seeds=1)
    assert sensitivity.sensitivity(load.load(suite.path)).empty
