"""Further test sets in a table of their own."""

import pandas as pd

from opcd_bench.report.analysis.probes import COLUMNS
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables.probes import sections


def test_base_and_ceiling_come_first_and_a_set_without_a_ceiling_leaves_it_empty():
    score = Interval(0.5, 0.4, 0.6, 10)
    rows = [
        ("t", "again", "base", None, None, score, None),
        ("t", "again", "opcd", 1e-4, (0,), score, score),
        ("t", "turned", "base", None, None, score, None),
        ("t", "turned", "ceiling", None, None, score, None),
        ("t", "turned", "opcd", 1e-4, (0,), score, score),
    ]
    (section,) = sections(pd.DataFrame(rows, columns=COLUMNS))
    assert section.columns == ("method", "learning rate", "again (n = 10)", "turned (n = 10)")
    lines = section.groups[0].rows
    assert [line[0] for line in lines] == ["base", "ceiling", "opcd"]
    assert lines[1][2:] == ("", score)


def test_no_further_test_sets_make_no_table():
    assert sections(pd.DataFrame(columns=COLUMNS)) == []
