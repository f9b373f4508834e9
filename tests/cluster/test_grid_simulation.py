"""A grid on workers that are killed at random, by the product's own driver and leases."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import grid_simulation

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize("drivers", [1, 2])
def test_no_cell_is_lost_or_run_twice(drivers):
    found = grid_simulation.simulate(80, 20, steps=10, seconds=0.05, kill=0.5, drivers=drivers)
    assert (found.lost, found.sealed_twice, found.wrong_rows) == (0, 0, 0), found
    assert found.processes > 80, "some were killed"
