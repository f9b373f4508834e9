"""The variance of gains over teachers, losses and seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_suite import describe, finish
from scipy import stats

from opcd_bench.report.analysis import crossed as crossed_spread
from opcd_bench.report.analysis import load, sensitivity
from opcd_bench.report.analysis.sensitivity import (
    ERRORS,
    EXAMPLES,
    SOURCES,
    degrees,
    p_of,
    shares,
    sums_of_squares,
)
from opcd_bench.report.tables import sensitivity as table

ITEMS = np.array([0.3, -0.1, -0.2])


def shares_of(scores):
    return shares(sums_of_squares(scores), degrees(scores))


def p_by(source, scores):
    return p_of(source, sums_of_squares(scores), degrees(scores))


def answered(rng, **spreads):
    """Right or wrong by teacher, loss, seed and example: 3 x 4 x 4 x 200, by the logit's parts.

    ``spreads``: letters of the axes that a part goes by (T, L, S, I) -> how wide it is.
    """
    sizes = dict(zip("TLSI", (3, 4, 4, 200), strict=True))
    logit = sum(
        wide * rng.normal(size=[n if axis in axes else 1 for axis, n in sizes.items()])
        for axes, wide in {"I": 1.0, **spreads}.items()
    )
    return (rng.random(tuple(sizes.values())) < 1 / (1 + np.exp(-logit))).astype(float)


def test_scores_of_one_source_have_it_all():
    teacher = np.zeros((3, 2, 4, 3)) + np.array([0.1, 0.2, 0.6])[:, None, None, None]
    loss = np.zeros((3, 2, 4, 3)) + np.array([0.1, 0.5])[None, :, None, None]
    seed = np.zeros((3, 2, 4, 3)) + np.array([0.0, 0.1, -0.1, 0.0])[None, None, :, None]
    crossed = np.einsum("t,l->tl", [1.0, -1.0], [1.0, -1.0])[:, :, None, None] * np.ones(
        (2, 2, 3, 3)
    )
    luck = np.einsum("t,s->ts", [1.0, -1.0], [1.0, -1.0, 0.0])[:, None, :, None] * np.ones(
        (2, 2, 3, 3)
    )
    for scores, source in (
        (teacher, "teacher"), (loss, "loss"), (seed, "seed"), (crossed, "teacher x loss"),
        (luck, "teacher x seed"),
    ):  # fmt: skip
        found = sums_of_squares(scores + ITEMS)
        assert found[source] == pytest.approx(((scores - scores.mean()) ** 2).sum())
        assert found["example"] == pytest.approx(scores[..., 0].size * (ITEMS**2).sum())
        assert {name for name, square in found.items() if square} == {source, "example"}
        if source in ERRORS:
            assert shares_of(scores + ITEMS)[source] == pytest.approx(1.0)
            # Of every example and, but for the last, of every seed: nothing would give so much.
            assert p_by(source, scores + ITEMS) == 0.0


@pytest.mark.parametrize("value", [0.1, 0.7125, 1 / 3])
def test_scores_that_are_all_alike_vary_with_nothing(value):
    """Rounding leaves squares of 1e-30 of some values."""
    alike = np.full((3, 4, 4, 240), value) - 0.0458333333
    assert set(sums_of_squares(alike).values()) == {0.0}
    assert all(np.isnan(share) for share in shares_of(alike).values())
    assert all(np.isnan(p_by(source, alike)) for source in SOURCES)


@settings(deadline=None)
@given(st.integers(2, 4), st.integers(2, 4), st.integers(2, 5), st.integers(0, 999))
def test_the_parts_add_up_to_the_whole(teachers, losses, seeds, seed):
    scores = np.random.default_rng(seed).normal(size=(teachers, losses, seeds, 3))
    found = sums_of_squares(scores)
    assert {*ERRORS, *ERRORS.values()} <= set(found) and min(found.values()) >= 0
    assert sum(found.values()) == pytest.approx(((scores - scores.mean()) ** 2).sum())
    assert sum(degrees(scores).values()) == scores.size - 1
    assert tuple(shares_of(scores)) == SOURCES
    assert sum(shares_of(scores).values()) == pytest.approx(1)


def test_what_seeds_and_examples_alone_add_to_a_source_is_theirs():
    rng = np.random.default_rng(0)
    shared = [shares_of(answered(rng, TI=1.0, LI=0.5, TLS=0.2)) for _ in range(100)]
    means = {source: np.mean([one[source] for one in shared]) for source in SOURCES}
    assert all(abs(means[source]) < 0.03 for source in ERRORS)
    assert 0.03 < means[EXAMPLES] < 0.3 and means["seed"] == pytest.approx(
        1 - means[EXAMPLES], abs=0.03
    )


def test_a_teachers_luck_with_its_seeds_or_examples_is_no_evidence_for_the_teacher():
    """Some five of a hundred grids are called sure, and no more; of seeds alone it was 35."""
    rng = np.random.default_rng(0)
    for spreads in ({"TI": 1.0}, {}, {"TS": 0.5, "TLS": 0.2}, {"TI": 1.0, "TS": 0.5, "TLS": 0.2}):
        drawn = [answered(rng, **spreads) for _ in range(100)]
        sure = sum(p_by("teacher", scores) <= 0.05 for scores in drawn)
        assert sure <= 10, spreads
    assert p_by("teacher x seed", drawn[0]) < 0.05


def test_a_teacher_that_is_better_on_most_examples_is_found():
    rng = np.random.default_rng(0)
    better = np.array([0.0, 0.6, 1.2])[:, None, None, None]
    drawn = [answered(rng, TI=0.5, TS=0.1) for _ in range(20)]
    kept = [
        (scores + (rng.random(scores.shape) < better / 4) > 0).astype(float) for scores in drawn
    ]
    assert sum(p_by("teacher", scores) <= 0.05 for scores in kept) >= 18


def test_of_two_teachers_the_test_is_that_of_the_difference_of_two_methods():
    scores = answered(np.random.default_rng(1), T=0.4, TI=0.5, TS=0.2, TLS=0.1)[:2]
    difference = (scores[0] - scores[1]).mean(axis=0)
    spread = crossed_spread.spread(difference)
    alone = stats.ttest_1samp(difference.mean(axis=1), 0).pvalue
    assert p_by("teacher", scores) == pytest.approx(max(spread.p(difference.mean()), alone))
    assert np.isnan(p_by("seed", scores)) and np.isnan(p_by(EXAMPLES, scores))


def test_the_share_is_epsilon_squared():
    scores = answered(np.random.default_rng(1), T=0.4, TI=0.5, TS=0.2, TLS=0.1)
    runs = scores.mean(axis=-1)
    squares = 4 * 4 * ((runs.mean(axis=(1, 2)) - runs.mean()) ** 2).sum()
    left = {}
    for name, means in (
        ("seed", runs.mean(axis=1)), ("example", scores.mean(axis=(1, 2))),
    ):  # fmt: skip
        rest = means - means.mean(axis=0) - means.mean(axis=1)[:, None] + means.mean()
        left[name] = (rest**2).sum() / rest[1:, 1:].size
    three = scores.mean(axis=1)
    rest = sum(
        (-1) ** len(axes) * three.mean(axis=axes, keepdims=True)
        for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
    )
    both = (rest**2).sum() / rest[1:, 1:, 1:].size / 200
    noise = 4 * left["seed"] + 4 * 4 / 200 * left["example"] - 4 * both
    share = (squares - 2 * noise) / ((runs - runs.mean()) ** 2).sum()
    assert shares_of(scores)["teacher"] == pytest.approx(share)


def test_a_suite_without_a_grid_of_teachers_and_losses_has_no_rows(tmp_path):
    suite = describe(tmp_path / "made")
    for method in ("opcd", "forward_kl"):
        finish(suite, method, 1e-3, 0)
    assert sensitivity.sensitivity(load.load(suite.path)).empty


def crossed(tmp_path, monkeypatch, seeds):
    """A suite of two teachers and two losses; ``seeds``: how many of each method in turn."""
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
    for name, count in zip(names, seeds, strict=True):
        for seed in range(count):
            finish(suite, name, 1e-3, seed)
    return load.load(suite.path)


def test_a_grid_of_two_teachers_and_two_losses_has_a_row_a_source(tmp_path, monkeypatch):
    results = crossed(tmp_path, monkeypatch, (2, 2, 3, 2))
    frame = sensitivity.sensitivity(results)
    assert list(frame["source"]) == list(SOURCES)
    assert set(frame["teachers"]) == set(frame["losses"]) == {2}
    assert set(frame["seeds"]) == {(0, 1)} and set(frame["examples"]) == {20}
    assert frame["share"].sum() == pytest.approx(1.0)
    (line,) = table.conclusions(frame, sensitivity.lacking(results))
    assert "toy: " in line and "between seeds" in line
    (section,) = table.sections(frame)
    assert "seeds 0, 1, 20 test examples" in section.title
    assert section.columns[-1] == "p" and section.groups[0].rows[-1][-1] == ""


def test_the_analysis_is_of_accuracies_on_test(tmp_path, monkeypatch):
    results = crossed(tmp_path, monkeypatch, (2, 2, 2, 2))
    frame = sensitivity.sensitivity(results).set_index("source")
    runs = results.samples[results.samples["split"] == "test"]
    means = runs.groupby(["method", "seed"])["score"].mean()
    whole = ((means - means.mean()) ** 2).mean()
    spread = np.sqrt(frame.loc["seed", "share"] * whole)
    assert frame.loc["seed", "spread"] == pytest.approx(spread)


@pytest.mark.parametrize(
    ("seeds", "shares", "fewest"),
    [((1, 1, 1, 1), "1", "(1)"), ((2, 2, 2, 1), "1", "(1)"), ((2, 2, 2, 0), "none", "(0)")],
)
def test_a_grid_without_two_shared_seeds_says_so(tmp_path, monkeypatch, seeds, shares, fewest):
    results = crossed(tmp_path, monkeypatch, seeds)
    frame = sensitivity.sensitivity(results)
    assert frame.empty
    (line,) = table.conclusions(frame, sensitivity.lacking(results))
    assert line.startswith("toy: no analysis of variance yet. It takes 2 seeds that all 4 methods ")
    assert f"they share {shares}." in line and line.endswith(f"{fewest}.")
    assert ("Fewest have 8_live (" in line) == (len(set(seeds)) > 1)


def test_p_is_never_printed_as_0(tmp_path, monkeypatch):
    frame = sensitivity.sensitivity(crossed(tmp_path, monkeypatch, (2, 2, 2, 2)))
    frame.loc[frame["source"] == "teacher", "p"] = 0.0
    (section,) = table.sections(frame)
    assert section.groups[0].rows[0][-1] == "<0.001"
