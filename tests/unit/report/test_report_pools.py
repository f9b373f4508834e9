"""Gap closed against the number of contexts: which tasks make a line, and what is drawn of them."""

import math
import re

import pandas as pd
import pytest
from report_suite import describe, finish

from opcd_bench.envs.task import Context, Contexts
from opcd_bench.report.analysis import along, contexts, load, optima, pools
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import pools as figure
from opcd_bench.report.figures import style
from opcd_bench.report.page import render


def told(count, *, by_example=True, named=False):
    pool = tuple(Context(f"Rules {at} of {count}, {named}.") for at in range(count))
    drawn = Contexts(pool, by_example=by_example, named=named)
    return StoredContexts(drawn, math.nan, math.nan)


# Names say nothing here: what is stored does.
TOLD = {
    "a": told(1, by_example=False), "b": told(16), "c": told(4), "d": told(4, named=True),
    "e": told(16, named=True), "by_run": told(64, by_example=False),
}  # fmt: skip
CLOSED = {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.8, "e": 0.7, "by_run": 0.3}


def row(task, method="opcd", value=None, half=0.05, **more):
    value = CLOSED[task] if value is None else value
    closed = Interval(value, value - half, value + half, 40)
    return {
        "task": task, "method": method, "learning_rate": 1e-3, "headline": True, "seeds": 2,
        "gap closed": closed, **more,
    }  # fmt: skip


def table(*rows):
    return pd.DataFrame(rows)


def test_the_number_is_that_of_the_stored_pool_and_pools_drawn_by_run_are_no_part():
    frame = pools.pools(table(*(row(task) for task in TOLD)), TOLD)
    points = list(zip(frame["task"], frame["contexts"], frame["named"], strict=True))
    assert points == [
        ("a", 1, False), ("c", 4, False), ("b", 16, False), ("d", 4, True), ("e", 16, True),
    ]  # fmt: skip
    assert [one.value for one in frame["gap_closed"]] == [0.9, 0.5, 0.1, 0.8, 0.7]


def test_only_rates_that_are_compared_count_and_gaps_that_have_an_interval():
    rows = [
        *(row(task) for task in "abc"),
        row("a", value=0.2, headline=False),
        row("b", "jsd", half=math.nan),
        row("c", "jsd", seeds=0),
        row("a", "jsd"),
    ]
    frame = pools.pools(table(*rows), TOLD)
    assert list(zip(frame["method"], frame["contexts"], strict=True)) == [
        ("opcd", 1), ("opcd", 4), ("opcd", 16), ("jsd", 1),
    ]  # fmt: skip


def test_two_tasks_are_no_line():
    two = {name: TOLD[name] for name in ("a", "b", "d", "e", "by_run")}
    assert pools.sizes(two) == {}
    assert pools.pools(table(row("a"), row("b")), two).empty


def test_tasks_of_one_size_are_left_out_since_nothing_says_which_of_them_belongs_here():
    more = {**TOLD, "another": told(1, by_example=False), "f": told(2)}
    assert set(pools.sizes(more)) == {"b", "c", "d", "e", "f"}


def test_a_method_changes_by_what_lies_between_the_fewest_contexts_and_the_most():
    rows = [*(row(task) for task in "abcde"), row("a", "jsd"), row("c", "jsd")]
    rows += [row(task, "control_shuffled", control=True) for task in "abc"]
    (one,) = pools.changes(pools.pools(table(*rows), TOLD)).itertuples()
    assert (one.method, one.first, one.last) == ("opcd", 1, 16)
    assert one.change.value == pytest.approx(-0.8)
    assert one.change.high - one.change.value == pytest.approx(math.hypot(0.05, 0.05))
    assert pools.changes(pools.pools(table(row("d"), row("e")), TOLD)).empty


def probe(task, count, right, method="base", seed=0):
    """Rows of eight prompts; ``right``: who -> of how many the likeliest token is right."""
    rate = None if method == "base" else 1e-3
    about = {"task": task, "method": method, "learning_rate": rate, "step": 0, "seed": seed}
    numbers = dict.fromkeys([*optima.LOSSES, *optima.SHARES], 0.5)
    return [
        {
            **about, "example_id": f"e{at}", "contexts": count, **numbers,
            **{f"{who}_greedy": float(at < many) for who, many in right.items()},
        }
        for at in range(8)
    ]  # fmt: skip


def test_the_best_without_context_is_the_share_of_the_probes_gap_that_an_optimum_closes():
    right = {"teacher": 8, "forward": 5, "reverse": 4, "student": 2}
    rows = [
        *(row for seed in (0, 1) for row in probe("c", 4, right, seed=seed)),
        *probe("c", 4, {**right, "forward": 8}, method="opcd"),  # no base
        *probe("b", 8, right),  # not every context of the pool
        *probe("d", 1, right),  # prompts name theirs
    ]
    best = pools.best(pd.DataFrame(rows, columns=optima.ROWS), TOLD)
    assert list(best["task"]) == ["c", "c"] and list(best["contexts"]) == [4, 4]
    found = dict(zip(best["loss"], best["gap_closed"], strict=True))
    assert found["forward"].value == pytest.approx((5 - 2) / (8 - 2))
    assert found["reverse"].value == pytest.approx((4 - 2) / (8 - 2))
    assert pools.best(pd.DataFrame(columns=optima.ROWS), TOLD).empty


@pytest.fixture
def frame():
    rows = [row(task, method) for method in ("opcd", "forward_kl") for task in TOLD]
    return pools.pools(table(*rows), TOLD)


def test_a_line_a_method_and_another_of_prompts_that_name_their_context(frame):
    best = pd.DataFrame(
        [("c", 4, loss, Interval(0.6, 0.5, 0.7, 8)) for loss in ("forward", "reverse")],
        columns=pools.BEST,
    )
    marks = style.palette(["opcd", "forward_kl"])
    drawn = figure.drawn(frame, best, marks)
    assert list(drawn.data.columns) == figure.DATA
    lines = drawn.data.groupby(["line", "prompts"], sort=False).size().to_dict()
    assert lines == {
        ("opcd", figure.SILENT): 3, ("opcd", figure.NAMING): 2,
        ("forward_kl", figure.SILENT): 3, ("forward_kl", figure.NAMING): 2,
        ("exact optimum of forward KL", figure.SILENT): 1,
        ("exact optimum of reverse KL", figure.SILENT): 1,
    }  # fmt: skip
    assert "90.0 % with 1, 50.0 % with 4 and 10.0 % with 16" in drawn.alt
    assert "exact optimum" in drawn.caption
    alone = figure.drawn(frame[~frame["named"]], best.iloc[:0], marks)
    assert "exact optimum" not in alone.caption and "hollow" not in alone.caption


def test_far_intervals_do_not_squash_the_rest(frame):
    wide = frame.assign(gap_closed=[Interval(v.value, -9.0, 9.0, 4) for v in frame["gap_closed"]])
    flat = figure.data(wide, pd.DataFrame(columns=pools.BEST))
    with style.style():
        drawn = figure._draw(flat, style.palette(["opcd", "forward_kl"]), narrow=False)
    assert drawn.axes[0].get_ylim() == figure.FARTHEST


def test_one_line_says_with_which_methods_it_falls(frame):
    marks = style.palette(["opcd", "forward_kl", "jsd"])
    assert figure.conclusion(pools.changes(frame), marks) == (
        "From 1 context to 16, less of the gap is closed by OPCD (−80.0 points) and Forward KL "
        "(−80.0 points)."
    )
    flat = pd.DataFrame(
        [
            ("opcd", 2, 8, 3, Interval(0.2, 0.1, 0.3, 9)),
            ("forward_kl", 2, 8, 2, Interval(0, -1, 1, 9)),
            ("jsd", 2, 8, 1, Interval(-0.2, -0.3, -0.1, 9)),
        ],
        columns=along.CHANGES,
    )
    assert figure.conclusion(flat, marks) == (
        "From 2 contexts to 8, more of the gap is closed by OPCD (+20.0 points); no difference "
        "shows with Forward KL; a single training says nothing of Jensen–Shannon."
    )
    assert figure.conclusion(flat.iloc[:0], marks) == ""


def test_the_page_tells_it_only_where_three_tasks_differ(tmp_path, monkeypatch):
    suite = describe(tmp_path / "made")
    finish(suite, "opcd", 1e-3, 0)
    results = load.load(suite.path)
    plain = render.render(results, command="c")
    assert 'id="pools"' not in plain["index.html"].decode() and "data/pools.csv" not in plain
    monkeypatch.setattr(contexts, "of", lambda _: {"toy": told(4), "x": told(1), "y": told(2)})
    files = render.render(results, command="c")
    page = files["index.html"].decode()
    assert re.search(r'<section id="pools".*?figures/pools\.svg', page, flags=re.DOTALL)
    assert page.count('href="#pools"') == 2 and "Gap closed, in %" in page
    assert files["figures/pools.csv"] and files["data/pools.csv"]
