"""The page: what it shows, what it links to, and that nothing in it can become markup."""

import html.parser
import json
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pandas as pd
import pytest
from report_comparison import NAMES, TASK, comparison, empty, interval

from opcd_bench.envs.task import Context, Contexts
from opcd_bench.report.analysis import break_even, several_samples
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.figures import catalogue, style
from opcd_bench.report.page import page, tables
from opcd_bench.report.page.page_context import PageContext
from opcd_bench.report.page.sections import sections
from opcd_bench.report.page.verdict import Verdict

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
MARKS = style.palette(NAMES)
NOTHING = {"several": pd.DataFrame(columns=several_samples.COLUMNS),
           "break_even": pd.DataFrame(columns=break_even.COLUMNS)}  # fmt: skip
VOID = {"meta", "link", "img", "source", "input", "br", "hr"}


class Page(html.parser.HTMLParser):
    """Tags with their attributes, headings, and the text of everything, in order."""

    def __init__(self, data):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(data.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "script" not in self.open and "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


def cells(*rows):
    """Results.cells of (run, method, state, reason) of each."""
    return pd.DataFrame(
        [
            {"task": TASK, "method": method, "learning_rate": 1e-3, "seed": 0, "run": run,
             "state": state, "reason": reason, "settings": {"suite.max_steps": 20},
             "chosen_step": 10.0 if state == "done" else None, "seconds": 61.4,
             "peak_memory_bytes": 2e9, "description": {"writer": {"kind": "student"}},
             "environment": {"device": "cpu"}}
            for run, method, state, reason in rows
        ]
    )  # fmt: skip


def context(**changes):
    runs = cells(
        *((f"toy--{name}--s0", name, "done", "") for name in NAMES),
        ("toy--cold--s0", "cold", "failed", "the reactor is cold"),
    )
    made = PageContext(
        name="toys",
        summary="Two toys.",
        command="opcd-bench report results/toys",
        marks=MARKS,
        tasks=[TASK],
        verdicts=[Verdict(TASK, "OPCD gains more than SFT.")],
        **NOTHING,
        headline='<div class="scroll" role="region" aria-label="toy" tabindex="0"><table>'
        '<tr><th scope="row">opcd</th><td><a href="#run-toy--opcd--s0">1</a></td></tr>'
        "</table></div>",
        comparison=comparison(),
        drawn=[],
        cells=runs,
        protocols=pd.DataFrame(
            [{"task": TASK, "measured": "keep", "split": "retention", "protocol_hash": "abc123"}]
        ),
        missing=pd.DataFrame(
            [{"task": TASK, "learning_rate": rate, "method": "late", "state": "not run"}
             for rate in (3e-3, 1e-3)]
        ),
        sample_count=1600,
        downloads={"headline.csv": "headline.csv"},
        notes=["Not complete."],
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture(scope="module")
def drawn():
    return catalogue.draw(comparison(), MARKS, [TASK], {TASK: 0.9})


@pytest.fixture(scope="module")
def whole(drawn):
    return Page(page.render(context(drawn=drawn)))


def test_sections_stand_in_the_order_of_the_comparison(whole):
    found = [attributes["id"] for attributes in whole.all("section")]
    assert found == ["verdict", "headline", "frontier", "samples", "forgetting", "curves",
                     "factorial", "pairwise", "instructions", "provenance"]  # fmt: skip
    links = [attributes["href"] for attributes in whole.all("a")]
    assert links[1:11] == [f"#{section}" for section in found]


def test_the_answer_stands_first_and_details_are_folded(whole, drawn):
    made = sections(context(drawn=drawn))
    assert [one.id for one in made if not one.folded] == ["verdict", "headline", "frontier"]
    text = whole.text
    assert text.index("OPCD gains more than SFT.") < text.index("Comparison", 200)
    figures = [one["id"] for one in whole.all("figure")]
    assert figures[0] == "figure-summary"
    parts = [one for one in whole.all("details") if one.get("class") == "part"]
    assert len(parts) == sum(one.folded for one in made)
    assert not any("open" in one for one in parts)


def test_published_and_external_rows_get_sections_of_their_own():
    made = sections(context(published="<p>theirs</p>", external="<p>others</p>"))
    assert [one.id for one in made][-3:] == ["published", "external", "provenance"]


def test_the_contexts_stand_on_the_page_word_for_word():
    pool = (Context(f"Rule one.\n\n{EVIL}", "user"), Context("Rule two."))
    told = {
        TASK: StoredContexts(Contexts(pool), 20.0, 7.0),
        "other": StoredContexts(Contexts(pool[1:]), 20.0, 1234.4),
    }
    found = Page(page.render(context(contexts=told, tasks=[TASK, "other"])))
    assert "Rule one." in found.text and EVIL in found.text
    assert len(found.all("script")) == 2
    assert "toy: at the head of the user message (hash" in found.text
    assert "other: in a system message, 1,234 tokens (hash" in found.text


def test_a_suite_without_stored_contexts_has_no_section_of_them():
    assert "context" not in [one.id for one in sections(context())]


def test_every_link_within_the_page_has_its_target_and_no_id_is_there_twice(whole):
    wanted = {a["href"][1:] for a in whole.all("a") if a.get("href", "").startswith("#")}
    assert "run-toy--opcd--s0" in wanted
    assert wanted <= set(whole.ids)
    assert len(whole.ids) == len(set(whole.ids))


def test_every_file_that_is_linked_is_rendered(whole, drawn):
    there = {*catalogue.render_all(drawn), "headline.csv"}
    sources = [one["srcset"] for one in whole.all("source")] + [i["src"] for i in whole.all("img")]
    links = [one["href"] for one in whole.all("a") if not one["href"].startswith("#")]
    assert len(sources) == 2 * len(drawn)
    assert {f"figures/{one.name}.pdf" for one in drawn} <= set(links)
    assert {*sources, *links} <= there


def test_nothing_is_asked_of_the_network(whole, drawn):
    text = page.render(context(drawn=drawn)).decode()
    assert not re.search(r"""(?:src|href|srcset|url\()\s*=?\s*["']?(?:https?:)?//""", text)
    assert "@import" not in text


def test_each_figure_has_its_words_for_those_who_do_not_see_it(whole, drawn):
    assert [one["alt"] for one in whole.all("img")] == [one.alt for one in drawn]
    for one in drawn:
        assert re.sub(r"\s+", " ", one.caption) in whole.text


def test_a_section_without_anything_to_show_is_left_out():
    made = sections(context(comparison=empty(), sample_count=0, verdicts=()))
    assert [one.id for one in made] == ["headline", "provenance"]


def test_a_page_of_nothing_is_still_a_page():
    nothing = context(
        comparison=empty(), headline="", cells=cells(), protocols=pd.DataFrame(),
        missing=pd.DataFrame(columns=["task", "learning_rate", "method", "state"]),
        sample_count=0, downloads={}, notes=(), summary="", verdicts=(), marks={}, tasks=(),
    )  # fmt: skip
    assert "No cell of the suite is missing." in Page(page.render(nothing)).text


def test_names_reasons_and_replies_stay_text(drawn):
    evil = [replace(one, caption=EVIL, alt=EVIL, task=one.task and EVIL) for one in drawn]
    frames = comparison(("a", EVIL), task=EVIL)
    made = context(
        marks=style.palette(("a", EVIL)), tasks=[EVIL], verdicts=[Verdict(EVIL, EVIL)],
        name=EVIL, summary=EVIL, command=EVIL, notes=[EVIL], drawn=evil,
        comparison=frames,
        cells=cells((EVIL, EVIL, "failed", EVIL)), downloads={EVIL: EVIL},
        protocols=pd.DataFrame(
            [{"task": EVIL, "measured": EVIL, "split": EVIL, "protocol_hash": EVIL}]
        ),
        missing=pd.DataFrame(
            [{"task": EVIL, "learning_rate": 1.0, "method": EVIL, "state": EVIL}]
        ),
    )  # fmt: skip
    found = Page(page.render(made))
    assert not [one for one in found.tags if "onerror" in one[1]]
    assert len(found.all("script")) == 2
    assert len(found.all("img")) == len(drawn)
    assert found.text.count(EVIL) >= 12


@pytest.mark.parametrize("name", ["page.js", "samples.js"])
def test_the_scripts_write_no_markup(name):
    text = resources.files("opcd_bench.report.page").joinpath("templates", name).read_text("utf-8")
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                "new Function", "fetch(", "XMLHttpRequest"):  # fmt: skip
        assert way not in text


def test_the_rates_where_methods_are_compared_are_told_to_the_browser(whole):
    text = page.render(context()).decode()
    found = re.search(r'<script type="application/json" id="told">(.*?)</script>', text)
    assert json.loads(found.group(1)) == {
        "stands": {TASK: dict.fromkeys(NAMES, 1e-3)},
        "labels": [[name, mark.label] for name, mark in context().marks.items()],
    }


def test_what_is_missing_is_said_once_a_reason(whole):
    assert "toy late 0.001, 0.003 not run" in whole.text
    assert "failed: the reactor is cold" in whole.text


def test_what_the_runs_share_is_printed_once(whole):
    assert whole.text.count('"suite.max_steps": 20') == 1
    assert whole.text.count('"device": "cpu"') == 1
    assert "Environments (1)" in whole.text and "Methods (4)" in whole.text
    assert "abc123" in whole.text and "opcd-bench report results/toys" in whole.text


def test_the_same_context_gives_the_same_bytes(drawn):
    assert page.render(context(drawn=drawn)) == page.render(context(drawn=drawn))


# --- tables -------------------------------------------------------------------------------------


def only(by_task):
    (sections,) = by_task.values()
    return sections


def test_areas_stand_beside_their_bias():
    (table,) = only(tables.areas(comparison().areas, MARKS))
    assert table.columns == (
        "method", "keep: hypervolume (%)", "keep: bias", "obey: hypervolume (%)", "obey: bias",
    )  # fmt: skip
    assert [row[0] for row in table.groups[0].rows] == ["OPCD", "Forward KL", "SFT"]
    assert table.groups[0].rows[0][:3] == ("OPCD", interval(0.8), "1.0")
    assert "Learning rates that all methods finished: 0.001." in table.notes[0]


def test_a_method_without_an_area_has_an_empty_place():
    frame = comparison().areas
    frame = frame[~((frame["method"] == "opcd") & (frame["measured"] == "obey"))]
    (table,) = only(tables.areas(frame, MARKS))
    assert table.groups[0].rows[0] == ("OPCD", interval(0.8), "1.0", "", "")


def test_area_differences_stand_pair_by_pair():
    (table,) = only(tables.differences(comparison().area_differences, MARKS))
    assert [row[:2] for row in table.groups[0].rows] == [
        ("OPCD", "SFT"), ("Forward KL", "OPCD"), ("Forward KL", "SFT"),
    ]  # fmt: skip
    assert table.groups[0].rows[1][2:] == (interval(-0.1), interval(-0.1))


def test_effects_stand_over_all_measures_with_their_note():
    (table,) = only(tables.effects(comparison().effects, MARKS))
    assert table.columns[3:] == ("seeds", "test (points)", "keep (points)", "obey (points)")
    row = table.groups[0].rows[0]
    assert row[:3] == ("rollout policy", "student − in-context teacher", "Forward KL, OPCD")
    assert row[4] == interval(0.04)
    assert table.notes == ("Note: mind the gap.",)


def test_pairs_have_a_table_a_measure_and_no_p_of_zero():
    frame = comparison().matrix
    frame = frame.assign(p=1e-5)
    shown = only(tables.pairs(frame, MARKS))
    assert [table.title for table in shown] == [
        f"toy, {name}: method minus other" for name in ("test", "keep", "obey")
    ]
    assert shown[0].groups[0].rows[0][3:5] == ("<0.001", "0.500")


def test_several_samples_stand_with_base_and_teacher_first():
    frame = pd.DataFrame(
        [(TASK, name, 8, interval(0.5), interval(0.9), interval(3.0, 0.25), 40, 2)
         for name in ("ceiling", "sft_context", "opcd", "base")],
        columns=several_samples.COLUMNS,
    )  # fmt: skip
    (table,) = only(tables.several(frame, MARKS))
    assert table.title == "toy: 8 samples of a prompt (40 prompts)"
    assert table.columns == ("method", "seeds", "pass@1 (%)", "pass@8 (%)", "distinct answers of 8")
    assert [row[0] for row in table.groups[0].rows] == ["base", "in-context teacher", "OPCD", "SFT"]
    assert table.groups[0].rows[0][2:] == (interval(0.5), interval(0.9), "3.00 [2.75, 3.25]")


def test_break_even_says_the_queries_with_and_without_a_prefix_cache():
    frame = pd.DataFrame(
        [
            (
                TASK,
                "opcd",
                1e-3,
                (0, 1),
                interval(0.4),
                interval(0.9),
                500.0,
                60.0,
                80.0,
                2e15,
                1e12,
                2e10,
                2000.4,
                1e5,
            ),
            (
                TASK,
                "sft_context",
                1e-3,
                (0, 1),
                interval(0.0),
                interval(0.0),
                500.0,
                60.0,
                80.0,
                2e15,
                1e12,
                2e10,
                np.inf,
                np.inf,
            ),
        ],
        columns=break_even.COLUMNS,
    )
    (table,) = only(tables.break_even(frame, MARKS))
    rows = {row[0]: row[1:] for row in table.groups[0].rows}
    assert rows["OPCD"] == ("2,000", interval(0.4), interval(0.9), "80", "2,000", "100,000")
    assert rows[MARKS["sft_context"].label][4:] == ("never", "never")
    assert "The context has 500 tokens" in table.notes[0]


def test_contexts_that_rounds_made_stand_where_given_ones_do():
    shown = Page(page.render(context(lessons=[("toy, round 1: 2 items", "- a <lesson>")])))
    assert "What in-context teachers read" in shown.text
    assert "toy, round 1: 2 items" in shown.text and "- a <lesson>" in shown.text


def test_instruction_types_have_a_column_a_method():
    (table,) = only(tables.instructions(comparison().instructions, MARKS))
    assert table.columns[:3] == ("instruction", "prompts", "before (%)")
    assert table.groups[0].rows[0][:4] == ("keywords:existence", "12", "75.0", interval(-0.3))


def test_test_questions_that_train_asks_too_are_told_and_nothing_where_they_were_not_counted():
    told = "3 of 12 test questions are in train"
    assert told in Page(page.render(context(overlap={TASK: told}))).text
    assert "Train and test" not in Page(page.render(context())).text
