"""The time of a grid on several workers."""

import pytest

from opcd_bench.runner import registry
from opcd_bench.runner.estimate.workers import CellTime, seconds_on, waves_of


def test_a_wave_divides_among_workers_and_takes_whole_rounds():
    assert seconds_on(1, [[CellTime(3, 10.0)]]) == 30.0
    assert seconds_on(2, [[CellTime(3, 10.0)]]) == 20.0  # two rounds, not one and a half
    assert seconds_on(100, [[CellTime(3, 10.0)]]) == 10.0
    assert seconds_on(2, [[CellTime(2, 10.0), CellTime(1, 50.0)]]) == 50.0  # the longest alone


def test_waves_come_one_after_the_other():
    one = [CellTime(4, 5.0)]
    assert seconds_on(4, [one, one]) == 10.0
    assert seconds_on(4, [one, [], one]) == 10.0


def test_the_seeds_at_chosen_rates_are_a_wave_of_their_own():
    suite = registry.suite("paper_math")
    sweep, rest = waves_of(suite, [20], [200.0])
    assert (sweep[0].cells + rest[0].cells, sweep[0].seconds) == (20, pytest.approx(10.0))
    assert rest[0].cells == (8 if suite.headline_learning_rate == "dev" else 0)
