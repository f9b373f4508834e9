"""Further test sets in a table of their own."""

import pandas as pd

from opcd_bench.report.analysis.probes import COLUMNS
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables.probes import sections

NAN = float("nan")


def test_base_and_ceiling_come_first_and_a_set_without_a_ceiling_leaves_it_empty():
    score = Interval(0.5, 0.4, 0.6, 10)
    rows = [
        ("t", "again", "base", None, None, score, None, 0.25),
        ("t", "again", "opcd", 1e-4, (0,), score, score, 0.25),
        ("t", "turned", "base", None, None, score, None, NAN),
        ("t", "turned", "ceiling", None, None, score, None, NAN),
        ("t", "turned", "opcd", 1e-4, (0,), score, score, NAN),
    ]
    (section,) = sections(pd.DataFrame(rows, columns=COLUMNS))
    assert section.columns == ("method", "learning rate", "again (n = 10)", "turned (n = 10)")
    lines = section.groups[0].rows
    assert [line[0] for line in lines] == ["floor", "base", "ceiling", "opcd"]
    assert lines[0][2:] == ("25.0", "")
    assert lines[2][2:] == ("", score)
    (section,) = sections(pd.DataFrame(rows, columns=COLUMNS).assign(floor=NAN))
    assert section.groups[0].rows[0][0] == "base", "a run of before stored no floor"


def test_no_further_test_sets_make_no_table():
    assert sections(pd.DataFrame(columns=COLUMNS)) == []
