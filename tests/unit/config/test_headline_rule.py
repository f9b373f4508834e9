"""One rule says where a method stands: for the grid that spends the seeds, and for the report."""

import math

import pytest

from opcd_bench.config.headline_rule import DevScore, headline_rate, rule_of, standard_error


def swept(**dev):
    """``r3=0.5`` or ``r3=[0.5, 0.6]``: accuracies over 100 items at a rate of 1e-3."""
    return {
        10.0 ** -int(rate[1:]): [
            DevScore(value, 100) for value in (found if isinstance(found, list) else [found])
        ]
        for rate, found in dev.items()
    }


def test_the_standard_error_is_of_the_items_and_of_the_seeds():
    """One right and one wrong are added: (50 + 1) / 102 of 100, by hand."""
    assert standard_error([DevScore(0.5, 100)]) == pytest.approx(math.sqrt(0.25 / 100))
    one = 101 / 102 * (1 / 102) / 100
    assert standard_error([DevScore(1.0, 100)]) == pytest.approx(math.sqrt(one))
    two = math.sqrt(0.25 / 100 + 0.02 / 2)  # 0.4 and 0.6 have a variance of 0.02
    assert standard_error([DevScore(0.4, 100), DevScore(0.6, 100)]) == pytest.approx(two)
    assert standard_error([DevScore(math.nan, 0)]) == 0


@pytest.mark.parametrize(
    ("dev", "one_standard_error", "best"),
    [
        ({"r4": 0.1, "r3": 0.66, "r2": 0.7}, 1e-3, 1e-2),  # 0.7 - 0.046 = 0.654
        ({"r4": 0.1, "r3": 0.65, "r2": 0.7}, 1e-2, 1e-2),
        ({"r4": 0.99, "r3": 1.0, "r2": 1.0}, 1e-3, 1e-3),  # 1.0 - 0.0099 is above 0.99
        ({"r4": 0.995, "r3": 1.0}, 1e-4, 1e-3),
        ({"r4": 0.7, "r3": 0.69, "r2": 0.68}, 1e-4, 1e-4),  # a larger rate never for less
        ({"r3": 0.5}, 1e-3, 1e-3),
        ({"r4": math.nan, "r3": 0.0}, 1e-3, 1e-3),
        ({"r4": math.nan, "r3": math.nan}, 1e-4, 1e-4),
        ({"r4": [0.9], "r3": [0.2, 0.3]}, 1e-3, 1e-3),  # the seeds were spent there
    ],
)
def test_the_rate_by_each_rule(dev, one_standard_error, best):
    assert headline_rate("one_standard_error", swept(**dev)) == one_standard_error
    assert headline_rate("best", swept(**dev)) == best


def test_suites_stored_before_the_setting_took_the_best():
    assert rule_of({}) == "best"
    assert rule_of({"headline_rule": "one_standard_error"}) == "one_standard_error"
    assert rule_of({"headline_rule": 3}) == "best"


def test_without_a_rate_there_is_nothing_to_choose():
    with pytest.raises(ValueError):
        headline_rate("best", {})
