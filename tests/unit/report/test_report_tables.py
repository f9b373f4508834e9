"""The headline table of a small results folder made by hand, through the store itself."""

import csv
import io
import math
import re
from xml.etree import ElementTree

import pandas as pd
import pytest
from report_store import BASE, CEILING, GOOD, RETAINED, SETTINGS, begin, cell, finished

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import headline, significance, statistics
from opcd_bench.report.analysis.detectable import detectable
from opcd_bench.report.analysis.load import load
from opcd_bench.report.figures import files
from opcd_bench.report.tables import layout, markup, plain_text
from opcd_bench.store.suite_dir import SuiteDir

T_OF_FOUR = 4.255899
"""Standard errors that t of three degrees finds at 5 % in 80 %: nct.sf(t(.975), 3, this) = .8."""
"""Standard errors that four examples must differ by to be found: 3.1824 + 0.9785."""


@pytest.fixture
def suite(tmp_path):
    folder = SuiteDir(tmp_path / "toys")
    folder.merge({"name": "toys", "tasks": ["toy"], "methods": ["good"], "learning_rate": [1e-3],
                  "seeds": 1})  # fmt: skip
    return folder


def only_row(suite):
    table = headline.headline(load(suite.path))
    assert len(table) == 1
    return table.iloc[0]


def test_a_row_stands_beside_base_ceiling_gap_and_retention(suite):
    finished(suite, cell("good"), GOOD, {**RETAINED, "r0": 0.0, "r1": 0.0}, parse=0.75)
    row = only_row(suite)
    assert row["plain"].value == 0.5
    assert row["base"].value == 0.25
    assert row["ceiling"].value == 0.75
    assert math.isnan(row["gap closed"].value)  # of four examples no gap is shown
    assert row["parsed"] == 0.75
    assert row["keep before"].value == 0.75
    assert row["keep after"].value == 0.25
    assert row["keep change"].value == pytest.approx(-0.5)
    assert (row["state"], row["seeds"], row["steps"]) == ("done", 1, [10])
    assert (row["tokens written"], row["tokens scored"]) == (1234, 5678)


def cut_rows(*finishes):
    """Retention responses that ended so: "length" was cut."""
    return [
        {"task": "keep", "split": "retention", "example_id": f"r{number}", "sample": 0,
         "score": 0.0, "outcome": "wrong", "finish": finish}
        for number, finish in enumerate(finishes)
    ]  # fmt: skip


def test_responses_that_the_limit_cut_have_a_column_beside_their_score(suite):
    begun = cut_rows("length", "stop", "stop", "stop")
    suite.shared("retention-keep", "k").put("base", [{"measured": {}}, *begun])
    finished(suite, cell("good"), GOOD, cut_rows("length", "length", "length", "stop"))
    table = headline.headline(load(suite.path))
    assert table["keep cut"].item() == 0.75 and table["keep cut of base"].item() == 0.25
    kept = next(one for one in layout.sections(table) if "retention" in one.title)
    at = kept.columns.index("keep cut")
    assert kept.columns[at - 1] == "keep change"
    assert [row[at] for group in kept.groups for row in group.rows] == ["25.0", "75.0"]
    assert "reached the length limit" in " ".join(layout.caption(table))


def test_where_few_responses_are_cut_no_column_says_so(suite):
    begun = cut_rows(*["stop"] * 4)
    suite.shared("retention-keep", "k").put("base", [{"measured": {}}, *begun])
    finished(suite, cell("good"), GOOD, cut_rows(*["stop"] * 4))
    table = headline.headline(load(suite.path))
    assert "keep cut" not in table
    assert "length limit" not in " ".join(layout.caption(table))


def test_leakage_has_columns_where_there_is_any_and_a_sentence_where_there_is_none(suite):
    finished(suite, cell("good"), GOOD)
    table = headline.headline(load(suite.path))
    assert not any("leak" in line.lower() for line in layout.caption(table))
    none, some = (statistics.Interval(value, 0.0, 0.5, 4) for value in (0.0, 0.25))
    zero = {f"{name}{of}": [none] for name in headline.LEAKS for of in ("", " of base")}
    assert not {*headline.LEAKS} & {*layout.sections(table.assign(**zero))[0].columns}
    assert any("No test response" in line for line in layout.caption(table.assign(**zero)))
    leaks = table.assign(**{**zero, "copies context": [some]})
    first = layout.sections(leaks)[0]
    at = first.columns.index("copies context")
    assert "mentions context" not in first.columns and first.columns[at - 1] == "parsed"
    rows = {row[0]: row[at] for group in first.groups for row in group.rows}
    assert rows["good"] == some and rows["base"] == none
    assert any(line.startswith("Leakage") for line in layout.caption(leaks))


def test_the_text_says_percent_counts_and_one_seed(suite):
    finished(suite, cell("good"), GOOD, parse=0.75)
    text = plain_text.headline_text(suite.path)
    assert "one seed" in text and "±" not in text
    assert "50.0 [" in text and "1,234" in text and "75.0" in text
    assert "clustered by example, 2000 resamples" in text
    assert "Rows with one seed say nothing about seed variance" in text


def test_seeds_are_averaged_by_example_before_they_are_compared(suite):
    finished(suite, cell("good", seed=0), GOOD)
    finished(suite, cell("good", seed=1), CEILING)
    row = only_row(suite)
    assert row["seeds"] == 2
    assert row["plain"].value == pytest.approx(0.625)
    assert row["plain"].n == 4
    assert "one seed" not in plain_text.headline_text(suite.path)


def test_a_failed_sample_is_in_no_mean(suite):
    finished(suite, cell("good"), {**GOOD, "t2": None})
    assert only_row(suite)["plain"].value == pytest.approx(2 / 3)


def test_a_failed_cell_prints_its_reason_and_hides_no_other(suite):
    finished(suite, cell("good"), GOOD)
    with begin(suite, cell("bad")) as run:  # it failed before its first score
        run.fail("the reactor is cold", "a traceback")
    text = plain_text.headline_text(suite.path)
    assert "failed: the reactor is cold" in text
    assert "50.0 [" in text


def test_a_planned_cell_that_was_never_begun_prints_not_run(suite):
    suite.merge({"methods": ["good", "late"]})
    finished(suite, cell("good"), GOOD)
    table = headline.headline(load(suite.path)).set_index("method")
    assert table.loc["late", "state"] == "not run"
    assert table.loc["good", "state"] == "done"
    assert "not run" in plain_text.headline_text(suite.path)


def test_missing_seeds_are_counted(suite):
    suite.merge({"seeds": 3})
    finished(suite, cell("good"), GOOD)
    with begin(suite, cell("good", seed=1)):
        pass
    assert only_row(suite)["state"] == "2 of 3 seeds missing (not finished)"


def test_rates_of_the_sweep_plan_only_the_sweeps_seeds(suite):
    suite.merge({"seeds": 3, "learning_rate": [3e-3], "sweep_seeds": 1,
                 "headline_learning_rate": 1e-3})  # fmt: skip
    finished(suite, cell("good", rate=3e-3), GOOD)
    table = headline.headline(load(suite.path)).set_index("learning_rate")
    assert table.loc[3e-3, "state"] == "done"
    assert table.loc[1e-3, "state"] == "3 of 3 seeds missing (not run)"


def test_a_folder_without_a_run_has_a_table_of_what_is_planned(suite):
    assert "not run" in plain_text.headline_text(suite.path)
    assert "No cell is done" in plain_text.headline_text(suite.path)


def test_a_folder_without_a_suite_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no suite\.json.*opcd-bench run"):
        load(tmp_path)


def test_two_protocols_are_refused_with_a_run_of_each(suite):
    finished(suite, cell("good"), GOOD, protocol="one")
    finished(suite, cell("fine"), GOOD, protocol="two")
    with pytest.raises(StoreError, match="toy on test was measured under 2 protocols"):
        headline.headline(load(suite.path))


def test_cells_of_other_settings_are_refused_and_the_setting_named(suite):
    finished(suite, cell("good"), GOOD)
    finished(suite, cell("fine", settings={**SETTINGS, "max_steps": 50}), GOOD)
    with pytest.raises(StoreError, match=r"suite\.max_steps: 20 and 50"):
        headline.headline(load(suite.path))


def test_a_cell_run_twice_under_an_edited_method_is_refused(suite):
    finished(suite, cell("good", k=1), GOOD)
    finished(suite, cell("good", k=2), GOOD)
    with pytest.raises(StoreError, match="two runs of one cell"):
        headline.headline(load(suite.path))


@pytest.fixture
def by_t_alone(monkeypatch):
    """Of so few examples sign flips find nothing: here it is asked which cells are compared."""
    monkeypatch.setattr(significance, "FEW_DIFFER", 0)


def test_the_detectable_difference_is_between_methods_at_one_rate(suite, by_t_alone):
    """The largest over pairs: good and same are alike (0), each differs from far on two of four."""
    finished(suite, cell("good"), GOOD)
    finished(suite, cell("same"), GOOD)
    finished(suite, cell("far"), {"t0": 0.0, "t1": 1.0, "t2": 0.0, "t3": 1.0})
    finished(suite, cell("other", rate=1e-2), BASE)
    results = load(suite.path)
    # differences 1, -1, 0, 0: standard deviation sqrt(2/3), over four examples
    expected = T_OF_FOUR * math.sqrt(2 / 3) / 2
    assert detectable(results, ("toy", "good", 1e-3)) == pytest.approx(expected, rel=1e-5)
    text = plain_text.headline_text(suite.path)
    assert "between two methods that would be found with 80 % power" in text
    assert expected > 1 and "toy none, because no difference that there can be" in text


def test_the_detectable_difference_of_a_lone_method_is_to_the_base(suite, by_t_alone):
    finished(suite, cell("good"), GOOD)
    expected = T_OF_FOUR * 0.5 / 2  # differences 1, 0, 0, 0
    assert only_row(suite)["mde"] == pytest.approx(expected, rel=1e-5)
    assert "the smallest difference to the base" in plain_text.headline_text(suite.path)


def test_the_comparison_is_drawn_where_the_most_seeds_ran(suite, by_t_alone):
    """A sweep's single seed at a harsh rate says nothing about the headline rate."""
    for method, scores in (("good", GOOD), ("same", GOOD)):
        for seed in range(2):
            finished(suite, cell(method, seed=seed), scores)
        finished(suite, cell(method, rate=1e-2), BASE if method == "good" else CEILING)
    results = load(suite.path)
    assert math.isnan(detectable(results, ("toy", "good", 1e-3)))
    assert math.isnan(detectable(results, ("toy", "good", 1e-2)))


@pytest.mark.parametrize("rule", ["dev", None])
def test_methods_meet_at_their_own_headline_rates_where_the_suite_chose_these_on_dev(
    suite, rule, by_t_alone
):
    suite.merge({"headline_learning_rate": rule})
    finished(suite, cell("good", rate=1e-3), GOOD)
    finished(suite, cell("far", rate=1e-2), CEILING)
    differs = T_OF_FOUR * 0.5 / 2  # one of four, to the other method as to the base
    alone = detectable(load(suite.path), ("toy", "far", 1e-2))
    to_base = T_OF_FOUR * math.sqrt(1 / 3) / 2  # the ceiling is above the base on two of four
    assert alone == pytest.approx(differs if rule == "dev" else to_base, rel=1e-5)


def test_methods_are_compared_over_the_seeds_that_both_ran(suite, by_t_alone):
    """Both have two seeds, one of them in common, and on that one they are alike."""
    finished(suite, cell("good", seed=0), GOOD)
    finished(suite, cell("good", seed=1), BASE)
    finished(suite, cell("far", seed=0), GOOD)
    finished(suite, cell("far", seed=2), CEILING)
    assert math.isnan(detectable(load(suite.path), ("toy", "far", 1e-3)))
    assert "toy unknown, because all score alike" in plain_text.headline_text(suite.path)


# --- one frame in five forms ------------------------------------------------------------------

NAN = math.nan
ODD = "a_b|<script>&100%"


def shown(**changed):
    """A frame as `headline` makes it: two methods at their rates, one of them at another too."""

    def row(method, rate, plain, change, **more):
        interval = statistics.Interval(plain, plain - 0.05, plain + 0.04, 40)
        kept = {
            "keep before": statistics.Interval(0.8, 0.7, 0.9, 20),
            "keep after": statistics.Interval(0.8 + change, 0.6, 0.85, 20),
            "keep change": statistics.Interval(change, change - 0.1, change + 0.02, 20),
            "mde keep": 0.071,
        }
        return {
            "task": "toy", "learning_rate": rate, "method": method, "seeds": 2, "state": "done",
            "headline": True, "steps": [10, 20], "plain": interval, "floor": 0.25,
            "base": statistics.Interval(0.3, 0.2, 0.4, 40),
            "ceiling": statistics.Interval(1.0, NAN, NAN, 40), "gap closed": interval,
            "parsed": 0.995, "mde": 0.043, "tokens written": 61234.5, "tokens scored": 0.0,
            "seconds": 90.25, **kept, "runs": [f"{method}-s0", f"{method}-s1"], **more,
        }  # fmt: skip

    rows = [
        row("opcd", 3e-4, 0.9, -0.125),
        row(ODD, 3e-4, 0.5, 0.0, **changed),
        row("opcd", 1e-3, 0.95, -0.3, headline=False, seeds=1, runs=["opcd-s0"]),
    ]
    return pd.DataFrame(rows)


def test_the_text_is_this():
    words = [line for line in plain_text.as_text(shown()).splitlines()[:15]]
    assert "\n".join(words) == (
        "toy (40 test examples)\n"
        "method             learning rate  seeds     accuracy            gap closed         parsed"
        "  tokens generated  tokens scored  seconds\n"
        "floor                                        25.0\n"
        "base                                         30.0 [20.0, 40.0]\n"
        "ceiling                                     100.0\n"
        "opcd               0.0003         2          90.0 [85.0, 94.0]  90.0 [85.0, 94.0]  99.5  "
        "  61,234            0              90\n"
        "a_b|<script>&100%  0.0003         2          50.0 [45.0, 54.0]  50.0 [45.0, 54.0]  99.5  "
        "  61,234            0              90\n"
        "at other learning rates of the sweep\n"
        "opcd               0.001          one seed   95.0 [90.0, 99.0]  95.0 [90.0, 99.0]  99.5  "
        "  61,234            0              90\n"
        "\n"
        "toy: retention (items: keep 20)\n"
        "method             learning rate  seeds     keep               keep change\n"
        "base                                        80.0 [70.0, 90.0]\n"
        "opcd               0.0003         2         67.5 [60.0, 85.0]  -12.5 [-22.5, -10.5]\n"
        "a_b|<script>&100%  0.0003         2         80.0 [60.0, 85.0]    0.0 [-10.0, 2.0]"
    )


def test_the_markdown_is_this():
    lines = markup.as_markdown(shown()).splitlines()
    assert lines[:10] == [
        "### toy (40 test examples)",
        "",
        "| method | learning rate | seeds | accuracy | gap closed | parsed | tokens generated "
        "| tokens scored | seconds |",
        "| --- | --- | --- | --: | --: | --: | --: | --: | --: |",
        "| floor |  |  | 25.0 |  |  |  |  |  |",
        "| base |  |  | 30.0 [20.0, 40.0] |  |  |  |  |  |",
        "| ceiling |  |  | 100.0 |  |  |  |  |  |",
        "| OPCD | 0.0003 | 2 | 90.0 [85.0, 94.0] | 90.0 [85.0, 94.0] | 99.5 | 61,234 | 0 | 90 |",
        "| a\\_b\\|&lt;script&gt;&amp;100% | 0.0003 | 2 | 50.0 [45.0, 54.0] | 50.0 [45.0, 54.0] "
        "| 99.5 | 61,234 | 0 | 90 |",
        "| *at other learning rates of the sweep* |  |  |  |  |  |  |  |  |",
    ]
    assert lines[12] == "### toy: retention (items: keep 20)"


def test_the_csv_is_this():
    header, first, *rest = plain_text.as_csv(shown()).splitlines()
    assert header == (
        "task,learning_rate,method,seeds,state,headline,steps,plain,plain low,plain high,floor,"
        "base,base low,base high,ceiling,ceiling low,ceiling high,gap closed,gap closed low,"
        "gap closed high,parsed,mde,tokens written,tokens scored,seconds,keep before,"
        "keep before low,keep before high,keep after,keep after low,keep after high,keep change,"
        "keep change low,keep change high,mde keep,runs"
    )
    assert first == (
        "toy,0.0003,opcd,2,done,true,10 20,0.9,0.85,0.94,0.25,0.3,0.2,0.4,1,,,0.9,0.85,0.94,0.995,"
        "0.043,61234.5,0,90.25,0.8,0.7,0.9,0.675,0.6,0.85,-0.125,-0.225,-0.105,0.071,"
        "opcd-s0 opcd-s1"
    )
    assert len(rest) == 2


def as_html(table, others=()):
    """The tables and the words of the page."""
    shown = markup.sections_html(layout.sections(table))
    return shown + markup.caption_html(table) + markup.sections_html(others)


def test_the_html_is_this():
    page = as_html(shown())
    assert page.startswith(
        '<div class="scroll" role="region" aria-label="toy (40 test examples)" tabindex="0">\n'
        "<table>\n<caption>toy (40 test examples)</caption>\n<thead>\n"
        '<tr><th scope="col">method</th><th scope="col" class="more">learning rate</th>'
        '<th scope="col" class="more">seeds</th><th scope="col">accuracy</th>'
        '<th scope="col">gap closed</th><th scope="col" class="more">parsed</th>'
        '<th scope="col" class="more">tokens generated</th>'
        '<th scope="col" class="more">tokens scored</th>'
        '<th scope="col" class="more">seconds</th></tr>\n</thead>\n<tbody>\n'
        '<tr><th scope="row">floor</th><td class="more"></td><td class="more"></td><td>25.0</td>'
    )
    assert (
        '<tr><th scope="row">a_b|&lt;script&gt;&amp;100%</th><td class="more">0.0003</td>'
        '<td class="more">2 <small>('
        '<a href="#run-a_b|&lt;script&gt;&amp;100%-s0" '
        'aria-label="run a_b|&lt;script&gt;&amp;100%-s0">1</a> '
    ) in page
    assert "<td>90.0 <small>[85.0, 94.0]</small></td>" in page
    assert (
        '<tr><th scope="rowgroup" colspan="9">at other learning rates of the sweep</th></tr>'
        in page
    )
    assert "<script>" not in page


def test_pages_and_papers_have_methods_under_their_names_for_readers_and_terminals_as_typed():
    for form in (as_html, markup.as_markdown, markup.as_latex):
        text = form(shown())
        assert "OPCD" in text and "opcd " not in text
    assert "\nopcd " in plain_text.as_text(shown())
    assert "opcd" in plain_text.as_csv(shown())


def test_a_change_stands_for_its_value_where_there_is_little_room():
    frame = pd.DataFrame({"method": ["opcd"], "keep": ["80"], "keep change": ["-2"],
                          "drift (nats)": ["0.10"], "steps to 50%": ["11 [7, > 20]"],
                          "tokens to 50%": ["1,125 [750, 1,556]"]})  # fmt: skip
    page = markup.sections_html([layout.of_frame("toy", frame)])
    classes = re.findall(r'<th scope="col"( class="\w+")?>([^<]*)<', page)
    assert [(name, mark.strip()) for mark, name in classes] == [
        ("method", ""), ("keep", 'class="more"'), ("keep change", ""), ("drift (nats)", ""),
        ("steps to 50%", ""), ("tokens to 50%", 'class="rest"'),
    ]  # fmt: skip
    assert "<td>11 <small>[7, &gt; 20]</small></td>" in page


def test_a_row_that_says_nothing_where_there_is_little_room_is_left_out_there():
    frame = pd.DataFrame({"method": ["base", "opcd", "none"], "keep": ["82", "80", ""],
                          "keep change": ["", "-2", ""]})  # fmt: skip
    page = markup.sections_html([layout.of_frame("toy", frame)])
    rows = re.findall(r'<tr( class="\w+")?><th scope="row">(\w+)', page)
    assert rows == [(' class="more"', "base"), ("", "OPCD"), ("", "none")]


def test_columns_of_sentences_may_break():
    said = "what is said of it in more than thirty characters"
    frame = pd.DataFrame({"factor": ["a"], "levels": ["b - c"], "computed from": [said]})
    page = markup.sections_html([layout.of_frame("toy", frame)])
    assert page.count(f'<td class="words">{said}') == page.count("<td class") == 1


def test_parameters_in_brackets_are_no_interval():
    frame = pd.DataFrame({"method": ["opcd[k=4,a=b]"], "n": ["x [k=4, a=b]"]})
    page = markup.sections_html([layout.of_frame("toy", frame)])
    assert '<th scope="row">OPCD [k=4; a=b]</th><td>x [k=4, a=b]</td>' in page


def test_the_html_is_well_formed_and_every_row_is_full():
    page = ElementTree.fromstring(f"<main>{as_html(shown())}</main>")
    for found in page.iter("table"):
        width = len(found.findall("thead/tr/th"))
        for line in found.findall("tbody/tr"):
            assert sum(int(cell.get("colspan", "1")) for cell in line) == width
    assert len(page.findall("div/table")) == 2


def test_the_latex_has_booktabs_and_full_rows_and_no_open_special_character():
    text = markup.as_latex(shown())
    assert r"a\_b\textbar{}\textless{}script\textgreater{}\&100\%" in text
    assert r"$-$12.5 {\scriptsize [$-$22.5, $-$10.5]}" in text
    for part in text.split(r"\begin{table*}")[1:]:
        columns = re.search(r"\\begin{tabular}{([lr]+)}", part).group(1)
        rules = [part.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
        assert rules == sorted(rules)
        for line in part.splitlines():
            if line.endswith(r"\\") and "multicolumn" not in line:
                assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1
    assert r"\multicolumn{9}{l}{\emph{at other learning rates of the sweep}}" in text
    assert re.search(r"(?<!\\)[#_~^|<>]", text.replace("{table*}", "")) is None
    assert len(re.findall(r"(?<!\\){", text)) == len(re.findall(r"(?<!\\)}", text))


def test_a_csv_reads_back_as_the_numbers_that_it_was_written_from():
    frame = pd.read_csv(io.StringIO(plain_text.as_csv(shown())))
    assert list(frame["method"]) == ["opcd", ODD, "opcd"]
    assert list(frame["keep change low"]) == pytest.approx([-0.225, -0.1, -0.4])
    assert frame["ceiling low"].isna().all()
    assert list(frame["headline"]) == [True, True, False]


def test_what_is_missing_is_called_as_the_methods_of_its_table_are():
    rows = shown(state="not run", seeds=0)
    rows.loc[1, "method"] = "opcd_stop_gradient"
    assert "not run: opcd_stop_gradient at" in plain_text.as_text(rows)
    for made in (markup.as_markdown, markup.as_latex):
        assert "not run: OPCD (stop-gradient) at" in made(rows)


def test_what_is_missing_stands_below_the_table_with_its_reason():
    table = shown(state="1 of 2 seeds missing (failed: cold)", seeds=1, runs=["x"])
    for form in (
        plain_text.as_text,
        markup.as_markdown,
        as_html,
        markup.as_latex,
    ):
        text = form(table)
        assert "1 of 2 seeds missing (failed: cold): a" in text
        assert text.count("seeds missing") == 1
    assert "It may change while cells are missing" not in plain_text.as_text(shown())


def test_the_caption_has_the_smallest_difference_of_retention_too():
    text = " ".join(plain_text.as_text(shown()).split())
    assert "80 % power" in text and "toy 4.3 points, keep 7.1 points" in text
    assert "compared at its learning rate with the most seeds" in text


def test_a_column_that_no_row_fills_is_left_out():
    text = plain_text.as_text(shown().assign(seconds=NAN, floor=NAN))
    assert "seconds" not in text.split("\n\n")[0] and "\nfloor" not in text


def test_rows_of_others_stand_apart_and_after_the_measured_ones():
    rows = pd.DataFrame({"method": ["OPCD"], "accuracy": ["38.3"], "n": [NAN]})
    other = layout.of_frame("Published by others, not measured here", rows, "As printed.")
    for form in (
        plain_text.as_text,
        markup.as_markdown,
        as_html,
        markup.as_latex,
    ):
        text = form(shown(), [other])
        assert text.index("Published by others, not measured here") > text.rindex("keep change")
        assert text.index("As printed.") > 0 and "nan" not in text
        assert form(shown()) in text or form is not plain_text.as_text
    assert "38.3" not in plain_text.as_csv(shown(), [other])


def test_controls_stand_below_the_methods_under_a_heading_of_their_own():
    table = shown().assign(control=[False, True, False])
    first = layout.sections(table)[0]
    assert [group.label for group in first.groups] == ["", "controls", layout.OTHER_RATES]
    assert [row[0] for row in first.groups[1].rows] == [ODD]
    text = plain_text.as_text(table).split("\n\n")[0]
    assert text.index("opcd  ") < text.index("\ncontrols\n") < text.index(ODD)


@pytest.mark.parametrize(
    ("part", "changed", "control"),
    [
        ("loss", {"broken": True}, True),
        ("teacher", {"reads": "nothing"}, True),
        ("teacher", {"rows": "shuffled"}, True),
        ("teacher", {"reads": "nothing", "weights": "larger"}, False),
        ("teacher", {"reads": "reference"}, False),
    ],
)
def test_a_control_is_known_by_what_its_run_stored(suite, part, changed, control):
    config = cell("odd")
    config["method"][part] = {**config["method"][part], **changed}
    finished(suite, config, GOOD)
    finished(suite, cell("good"), GOOD)
    table = headline.headline(load(suite.path)).set_index("method")
    assert ("control" in table.columns) is control
    if control:
        assert dict(table["control"]) == {"good": False, "odd": True}


def test_many_retention_tasks_stay_within_the_terminal():
    wide = shown()
    for name in ("ifeval_of_long_name", "told_other", "mmlu_pro_redux", "gsm8k"):
        for when in ("before", "after", "change"):
            wide[f"{name} {when}"] = wide[f"keep {when}"]
    text = plain_text.as_text(wide)
    assert max(map(len, text.splitlines())) <= plain_text.WIDTH
    block = text.split("\n\n")[1]
    assert block.count("method") == 2, "a part of the columns each, both with the keys"
    assert all(name in block for name in ("mmlu_pro_redux change", "gsm8k change"))


def test_the_forms_of_a_stored_suite_are_the_same_bytes_twice(suite):
    finished(suite, cell("good"), GOOD)
    for form in (plain_text.as_text, markup.as_markdown, plain_text.as_csv, markup.as_latex,
                 as_html):  # fmt: skip
        once, again = (form(headline.headline(load(suite.path))) for _ in range(2))
        assert once == again


def test_control_codes_in_names_reach_no_form_of_a_table():
    bad = "a\x1b[2Jb\x9b\u202ec"
    frame = pd.DataFrame({bad: [bad, "x\ny"], "n": [1, 2]})
    section = layout.of_frame(bad, frame, bad)
    texts = [
        plain_text.section_text(section),
        markup.section_markdown(section),
        markup._latex(section, ""),
        markup.sections_html([section]),
    ]
    for text in texts:
        assert not set(text) & {"\x1b", "\x9b", "\u202e"}
        assert "x1b" in text and "x y" in text


def test_text_that_a_spreadsheet_would_run_is_text_in_the_csv_and_numbers_stay_numbers():
    frame = pd.DataFrame({"=name": ["=1+1", "@x", "plain"], "change": [-0.5, 1.0, float("nan")]})
    rows = list(csv.reader(io.StringIO(plain_text.as_csv(frame))))
    assert rows == [["'=name", "change"], ["'=1+1", "-0.5"], ["'@x", "1"], ["plain", ""]]
    drawn = files.csv(frame).decode().splitlines()
    assert drawn == ["'=name,change", "'=1+1,-0.5", "'@x,1", "plain,"]
