"""What the figures draw, and their files."""

import io
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from itertools import pairwise as neighbours
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_comparison import (
    NAMES,
    TASK,
    assert_no_word_is_cut_off,
    comparison,
    empty,
    interval,
    separated,
)

from opcd_bench.report.analysis.curves import METRICS
from opcd_bench.report.figures import (
    catalogue,
    curves,
    factorial,
    files,
    forgetting,
    frontier,
    instructions,
    pairwise,
    plane,
    steps,
    style,
    summary,
    tiles,
    words,
)
from opcd_bench.report.tables.shown_methods import ceiling, label

TWO = ("forward_kl", "opcd")
MANY = tuple(f"method_with_a_long_name_{i:02d}" for i in range(12))
KINDS = (
    "summary", "frontier", "forgetting", "retention-steps", "curves", "factorial", "pairwise",
    "instructions",
)  # fmt: skip
SUFFIXES = {".svg", "-narrow.svg", ".pdf", ".png", ".csv"}
GAPS = {TASK: 0.9}


def draw(frames):
    return catalogue.draw(frames, style.palette(NAMES), [TASK], GAPS)


@pytest.fixture(scope="module")
def drawn():
    return {one.kind: one for one in draw(comparison())}


# --- marks and numbers --------------------------------------------------------------------------


def test_a_method_has_the_same_mark_whatever_the_order_and_stands_in_the_order_given():
    assert style.palette(["b", "a"]) == style.palette(("a", "b", "a"))
    assert list(style.palette(["b", "a", "c"], controls={"b"})) == ["a", "c", "b"]


def test_a_method_has_the_same_mark_whoever_stands_beside_it():
    alone = style.palette(["opcd"])["opcd"]
    assert style.palette(["forward_kl", "aaa", "opcd", "zzz"])["opcd"] == alone
    mine = style.palette(["my_method"])["my_method"]
    assert style.palette(["forward_kl", "my_method", "opcd"])["my_method"] == mine


def test_the_marks_of_the_methods_that_ship_are_these_for_ever():
    wanted = {
        "sft_context": ("#1a1a1a", "s", "SFT"), "forward_kl": ("#0072b2", "o", "Forward KL"),
        "forward_kl_on_policy": ("#3a9bdb", "^", "Forward KL (on-policy)"),
        "reverse_kl_off_policy": ("#c48700", "v", "Reverse KL (off-policy)"),
        "opcd": ("#b34700", "D", "OPCD"),
        "opcd_stop_gradient": ("#00936c", "P", "OPCD (stop-gradient)"),
        "jsd": ("#c8699f", "X", "Jensen–Shannon"),
    }  # fmt: skip
    marks = style.palette(wanted)
    assert {name: marks[name][:3] for name in marks} == wanted


def test_every_method_that_ships_has_a_name_for_readers_and_a_mark_of_its_own():
    files = (Path(__file__).parents[3] / "baselines").glob("[!_]*.py")
    names = sorted(file.stem for file in files)
    marks = style.palette(names)
    assert len(names) > 15
    assert all(mark.label != name for name, mark in marks.items())
    assert len({mark.label for mark in marks.values()}) == len(names)
    assert len({mark[:2] for mark in marks.values()}) == len(names)
    controls = {name for name, mark in marks.items() if mark.control}
    assert controls == {name for name in names if name.startswith("control_")}


def test_a_control_is_grey_and_dashed_also_where_it_does_not_ship():
    mine = style.palette(["mine", "opcd"], controls={"mine"})["mine"]
    assert (mine.colour, mine.line, mine.label) == (style.MUTED, "--", "mine")


def test_a_method_with_parameters_keeps_its_name_and_has_a_mark_of_its_own():
    marks = style.palette(["opcd", "opcd[k=4]"])
    assert marks["opcd[k=4]"].label == "OPCD [k=4]"
    assert marks["opcd[k=4]"][:2] != marks["opcd"][:2]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("opcd[k=4,weights=larger]", "OPCD [k=4; larger teacher]"),
        ("opcd[by=grpo,weights=adapted]", "OPCD [teacher adapted by GRPO]"),
        (
            "opcd[by=grpo,by_reads=context,weights=adapted]",
            "OPCD [teacher adapted by GRPO in context]",
        ),
        ("opcd[reads=nothing]", "OPCD [teacher reads nothing]"),
        ("mine[weights=larger]", "mine[weights=larger]"),
    ],
)
def test_parameters_are_words_for_readers(name, words):
    assert label(name) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ceiling", "ceiling"),
        ("ceiling-larger", "ceiling, larger"),
        ("ceiling-larger-other-hint", "ceiling, larger, other hint"),
        ("ceiling-adapted-grpo", "ceiling, adapted by GRPO"),
        ("ceiling-adapted-grpo-told-hint", "ceiling, adapted by GRPO in context, hint"),
    ],
)
def test_ceilings_are_words_for_readers(name, words):
    assert ceiling(name) == words


def test_long_labels_are_broken_before_brackets_and_after_semicolons():
    assert style.wrapped("OPCD (stop-gradient) [larger teacher]", 30) == (
        "OPCD (stop-gradient)\n[larger teacher]"
    )
    assert style.wrapped("OPCD (stop-gradient) [k=4; larger teacher]", 26) == (
        "OPCD (stop-gradient) [k=4;\nlarger teacher]"
    )
    assert style.wrapped("SFT, then OPCD", 30) == "SFT, then OPCD"
    assert style.wrapped("OPCD [teacher adapted by GRPO in context]", 24) == (
        "OPCD\n[teacher adapted by GRPO\nin context]"
    )


def test_no_two_of_many_methods_share_colour_and_marker():
    marks = style.palette(f"{i:03d}" for i in range(60))
    assert len(set(marks.values())) == 60


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear, float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    low, high = sorted((luminance(a)[1], luminance(b)[1]))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [*style.COLOURS, style.INK, style.MUTED])
def test_every_line_stands_out_from_a_light_and_a_dark_page(colour):
    assert contrast(colour, "#ffffff") >= 3
    assert contrast(style.DARK[colour], "#14171a") >= 3


def test_text_on_tiles_can_be_read_on_both_pages():
    for value in (-0.3, -0.1, -0.03, -0.01, 0.0, 0.01, 0.03, 0.1, 0.3):
        fill, ink = tiles.tint(value)
        dark = style.DARK
        assert min(contrast(fill, ink), contrast(dark[fill], dark[ink])) >= 4.5


SEEN = {  # Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "all": np.eye(3),
}  # fmt: skip
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def seen(colour, eye):
    """CIELAB of a colour as such an eye sees it."""
    light = np.array(XYZ) @ np.clip(np.array(SEEN[eye]) @ luminance(colour)[0], 0, 1)
    x, y, z = np.cbrt(np.maximum(light / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", SEEN)
def test_eight_methods_can_be_told_apart_without_red_or_green(eye):
    light = style.COLOURS[:8]
    for colours in (light, [style.DARK[colour] for colour in light]):
        for a, b in combinations(colours, 2):
            assert np.linalg.norm(seen(a, eye) - seen(b, eye)) > 12, (a, b)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.25, "25"), (-0.125, "−12.5"), (0.0, "0"), (-0.0, "0"), (1e-9, "0"), (0.1 + 0.2, "30")],
)
def test_shares_are_printed_as_points_with_a_real_minus(share, text):
    assert style.points(share) == text


def test_a_sign_and_decimals_on_request():
    assert style.points(0.0126, signed=True, decimals=1) == "+1.3"
    assert style.points(-0.0004, signed=True, decimals=1) == "0.0"


# --- data first ---------------------------------------------------------------------------------


def point(method, gain, change, *, rate=1e-3, step=10, chosen=False):
    return {"task": TASK, "measured": "keep", "method": method, "learning_rate": rate,
            "step": step, "seeds": (0,), "gain": interval(gain), "change": interval(change),
            "pareto": False, "chosen": chosen}  # fmt: skip


def test_the_frontier_of_a_method_is_what_none_of_its_own_points_dominates():
    rows = [point("a", 0.0, 0.0, step=0), point("a", 0.3, -0.1), point("a", 0.5, -0.2, step=20),
            point("a", 0.4, -0.3, step=30), point("b", 0.9, 0.0)]  # fmt: skip
    areas = pd.DataFrame(
        [{"task": TASK, "measured": "keep", "method": name, "rates": (1e-3,)} for name in "ab"]
    )
    flat = frontier.data(pd.DataFrame(rows), areas, TASK)
    mine = flat[flat["method"] == "a"]
    assert mine["frontier"].tolist() == [False, True, True, False]
    assert mine["counts"].tolist() == [False, True, True, True]
    assert frontier.staircase(mine) == (
        [0.0, 0.0, 0.3, 0.3, 0.5], [-0.1, -0.1, -0.1, -0.2, -0.2],
    )  # fmt: skip


def test_a_rate_that_some_method_lacks_is_drawn_but_bounds_no_area():
    rows = [point("a", 0.3, -0.1), point("a", 0.9, 0.0, rate=3e-3)]
    areas = pd.DataFrame([{"task": TASK, "measured": "keep", "method": "a", "rates": (1e-3,)}])
    flat = frontier.data(pd.DataFrame(rows), areas, TASK)
    assert flat["counts"].tolist() == [True, False]
    assert flat["frontier"].tolist() == [True, False]


def test_points_that_lose_on_dev_bound_nothing():
    rows = pd.DataFrame([point("a", -0.2, 0.1)])
    areas = pd.DataFrame([{"task": TASK, "measured": "keep", "method": "a", "rates": (1e-3,)}])
    flat = frontier.data(rows, areas, TASK)
    assert frontier.staircase(flat) == ([], [])


def test_the_forgetting_plot_has_a_row_a_method_and_a_row_a_seed():
    flat = forgetting.data(comparison().forgetting, TASK)
    mine = flat[(flat["measured"] == "keep") & (flat["method"] == "opcd")]
    assert mine["seed"].fillna(-1).tolist() == [-1, 0, 1]
    assert mine["gain"].tolist() == pytest.approx([0.6, 0.58, 0.62])
    assert mine["change_low"].tolist() == pytest.approx([-0.07, -0.09, -0.05])


def test_methods_far_from_the_base_and_near_each_other_are_drawn_close_up():
    near = pd.DataFrame({"gain": [0.97, 0.98], "gain_low": [0.95, 0.96], "gain_high": [1.0, 1.0]})
    assert plane.clustered(near)
    spread = pd.DataFrame({"gain": [0.2, 0.9], "gain_low": [0.1, 0.8], "gain_high": [0.3, 1.0]})
    assert not plane.clustered(spread)


def test_the_mean_over_seeds_stands_only_where_every_seed_was_evaluated():
    rows = comparison(("a",), ("keep",)).by_step
    rows = rows[~((rows["seed"] == 1) & (rows["step"] == 20))]
    flat = steps.data(rows, TASK)
    mean = flat[flat["seed"].isna()]
    assert mean["step"].tolist() == [0, 10]
    assert mean["value"].tolist() == pytest.approx([0.8, 0.8 - 0.05 - 0.002])


def test_curves_are_of_the_compared_rates_with_their_means_first():
    flat = curves.data(comparison().curves, TASK)
    assert set(flat["learning_rate"]) == {1e-3}
    mine = flat[(flat["metric"] == "leak") & (flat["method"] == "opcd") & (flat["step"] == 2)]
    assert mine["seed"].fillna(-1).tolist() == [-1, 0, 1]
    assert mine["value"].tolist() == pytest.approx([0.5, 0.25, 0.75])
    assert mine["tokens"].tolist() == pytest.approx([200.5, 200.0, 201.0])


def test_the_kinds_of_divergence_are_named_below_the_curves(drawn):
    assert "opcd kind of OPCD" in drawn["curves"].caption


def test_a_kind_of_divergence_is_read_as_words():
    assert [words.divergence_words(kind) for kind in (
        "reverse_kl_generalised", "forward_kl", "jsd_0.5_renormalised", "reverse_kl_tail",
        "reverse_kl_estimate", "forward_kl_truncated_teacher",
    )] == [
        "generalised reverse KL", "forward KL", "renormalised JSD 0.5",
        "reverse KL with a tail bucket", "reverse KL, estimated from samples",
        "forward KL to the truncated teacher",
    ]  # fmt: skip


def test_a_figure_without_intervals_says_nothing_of_what_these_include(drawn):
    for figure in drawn.values():
        if "No interval is drawn" in figure.caption:
            assert "the intervals" not in figure.caption
    several = words.seeds_words([0, 1], drawn=False)
    assert several == "2 seeds."


def test_words_say_of_which_intervals_seeds_are_a_part():
    """Where some rest on one training and others on several, the narrow ones are named."""
    for counts, over, seeds in (
        ([1, 1], "percentile bootstrap over examples", "One seed: the intervals say nothing"),
        ([3, 3], "over seeds and examples", "3 seeds."),
        (
            [1, 2],
            "over seeds and examples; of one seed percentile bootstrap over examples alone",
            "1 to 2 seeds: the intervals of one seed say nothing about other trainings.",
        ),
        ([2, 4], "over seeds and examples", "2 to 4 seeds."),
    ):
        assert words.interval_words("examples", counts) == f"95% intervals ({over})"
        assert words.summed_seeds(counts).startswith(seeds)


def test_effects_of_one_seed_are_hollow_among_those_of_several():
    effects = comparison().effects
    several = effects.assign(seeds=[(0, 1)] * len(effects))
    counts = [(0,), *[(0, 1)] * (len(effects) - 1)]
    marks = style.palette(["opcd", "forward_kl", "jsd", "sft_context"])
    for frame, hollow in ((several, 0), (effects.assign(seeds=counts), 1)):
        drawn = factorial.drawn(frame, TASK, {**marks, **style.palette(sorted(
            {name for names in frame["methods"] for name in names}))})  # fmt: skip
        assert ("Hollow: one seed." in drawn.caption) == bool(hollow)
        flat = factorial.data(frame, TASK)
        named = {", ".join(names): "x" for names in frame["methods"]}
        panels = factorial._draw(flat, named, narrow=False).axes
        inside = [line.get_markerfacecolor() for panel in panels for line in panel.lines
                  if line.get_marker() == "o"]  # fmt: skip
        assert inside.count("none") == hollow and len(inside) == len(flat)


def test_letters_stand_only_where_two_methods_are_separated():
    """A method that stands at the base has none, which is no group of its own."""
    panel = pd.DataFrame({"control": [False] * 3, "letters": ["a", "a", ""]})
    assert not summary._apart(panel)
    assert summary._apart(panel.assign(letters=["a", "b", ""]))


def test_effects_keep_their_place_over_the_panels():
    flat = factorial.data(comparison().effects, TASK)
    assert flat.groupby("measured")["row"].apply(list).tolist() == [[0, 1, 2]] * 3
    assert flat["methods"].iloc[0] == "forward_kl, opcd"


def test_an_effect_is_labelled_by_its_levels_and_an_interaction_by_its_factors():
    assert factorial.label("direction", "reverse_kl - forward_kl") == (
        "direction: reverse kl − forward kl"
    )
    assert factorial.label("writer x direction", "(a - b)") == "rollout policy × direction"
    assert factorial.label("writer", "student - teacher") == (
        "rollout policy: student − in-context teacher"
    )


def test_the_matrix_is_row_minus_column_both_ways_round():
    flat = pairwise.data(comparison().matrix, TASK).set_index(["measured", "row", "column"])
    there, back = flat.loc[("test", "forward_kl", "opcd")], flat.loc[("test", "opcd", "forward_kl")]
    assert (there["difference"], back["difference"]) == pytest.approx((-0.1, 0.1))
    assert (back["difference_low"], back["difference_high"]) == pytest.approx((0.08, 0.12))
    assert len(flat) == 3 * 6


def test_only_differences_that_survive_the_correction_are_painted(drawn):
    part = drawn["pairwise"].data
    part = part[part["measured"] == "test"].set_index(["row", "column"])
    assert pairwise.tile_of(part, "forward_kl", "sft_context", 1).sure
    assert not pairwise.tile_of(part, "forward_kl", "opcd", 1).sure
    assert "Forward KL minus SFT on test: −20.0." in drawn["pairwise"].alt


@pytest.mark.parametrize(
    ("change", "n", "painted"),
    [((-0.3, -0.4, -0.2), 30, True), ((-0.3, -0.4, -0.2), 29, False),
     ((-0.3, -0.7, 0.1), 200, False), ((-0.3, np.nan, np.nan), 200, False)],
    ids=["many", "few", "unsure", "no interval"],
)  # fmt: skip
def test_an_effect_on_few_prompts_is_not_painted_as_a_finding(change, n, painted):
    row = pd.Series(dict(zip(("change", "change_low", "change_high"), change, strict=True), n=n))
    tile = instructions.tile_of(row)
    assert (tile.sure, tile.text) == (painted, "−30")
    panel = Figure().subplots()
    tiles.draw_tiles(panel, {(0, 0): tile}, ["a"], ["b"], 0.5)
    ground = matplotlib.colors.to_hex(panel.patches[0].get_facecolor())
    assert (ground != style.LEVEL) == painted


def test_the_most_forgotten_instruction_stands_first():
    flat = instructions.data(comparison().instructions, TASK)
    assert flat["instruction"].drop_duplicates().tolist() == [
        "keywords:existence", "startend:quotation", "punctuation:no_comma",
    ]  # fmt: skip


def test_captions_say_how_many_seeds_and_which_interval(drawn):
    assert "2 seeds: the intervals do not include seed variance" in drawn["frontier"].caption
    assert "95% intervals (percentile bootstrap over 40 dev items and 30 retention items)" in (
        drawn["frontier"].caption
    )
    assert "Solid: mean over seeds. Faint: single seeds." in drawn["retention-steps"].caption
    assert "mind the gap" in drawn["factorial"].caption


def test_one_seed_says_one_seed():
    frames = comparison()
    one = frames.forgetting[frames.forgetting["seed"].isin([None, 0])]
    marks = style.palette(NAMES)
    caption = forgetting.drawn(one, TASK, marks).caption
    assert "One seed" in caption and "Faint" not in caption


# --- what is drawn is the data ------------------------------------------------------------------


def figure_of(kind, names=NAMES, kept=("keep", "obey"), *, narrow=False):
    """The figure itself, as `catalogue.draw` would make it."""
    frames, marks = comparison(names, kept), style.palette(names)
    with style.style():
        if kind == "summary":
            flat = summary.data(frames.groups, GAPS, marks, [TASK])
            return summary._draw(flat, marks, narrow=narrow)
        if kind == "frontier":
            flat = frontier.data(frames.frontier, frames.areas, TASK)
            return frontier._draw(flat, marks, narrow=narrow)
        if kind == "forgetting":
            flat = forgetting.data(frames.forgetting, TASK)
            return forgetting._draw(flat, marks, narrow=narrow)
        if kind == "retention-steps":
            flat = steps.data(frames.by_step, TASK)
            return steps._draw(flat, marks, narrow=narrow)
        if kind == "curves":
            flat = curves.data(frames.curves, TASK)
            return curves._draw(flat, list(dict.fromkeys(flat["metric"])), marks, narrow=narrow)
        if kind == "factorial":
            flat = factorial.data(frames.effects, TASK)
            named = {text: text for text in flat["methods"]}
            return factorial._draw(flat, named, narrow=narrow)
        if kind == "pairwise":
            flat = pairwise.data(frames.matrix, TASK)
            return pairwise._draw(flat, marks, narrow=narrow)
        flat = instructions.data(frames.instructions, TASK)
        return instructions._draw(flat, marks, narrow=narrow)


def test_the_frontier_draws_every_point_and_a_stepped_line_of_each_method():
    figure = figure_of("frontier", TWO)
    assert [panel.get_title(loc="left") for panel in figure.axes] == [
        "keep", "keep, close up", "obey", "obey, close up",
    ]  # fmt: skip
    colour = style.palette(TWO)["opcd"].colour
    lines = [line for line in figure.axes[0].lines if line.get_color() == colour]
    every = next(line for line in lines if line.get_alpha() == 0.4)
    assert sorted(every.get_xdata()) == pytest.approx([0.35, 0.35, 0.6, 0.6])
    step = next(line for line in lines if line.get_alpha() == 0.5)
    assert list(step.get_ydata()) == pytest.approx([-0.02, -0.02, -0.02, -0.04, -0.04])
    chosen = next(line for line in lines if line.get_markersize() == 6.5)
    assert (chosen.get_xdata()[0], chosen.get_ydata()[0]) == pytest.approx((0.6, -0.04))


def test_the_forgetting_plot_draws_both_intervals_of_each_method():
    figure = figure_of("forgetting", TWO)
    colour = style.palette(TWO)["opcd"].colour
    bars = [
        (*line.get_xdata(), *line.get_ydata())
        for line in figure.axes[0].lines
        if line.get_color() == colour and line.get_linestyle() == "-"
    ]
    assert bars == [pytest.approx((0.58, 0.62, -0.05, -0.05)),
                    pytest.approx((0.6, 0.6, -0.07, -0.03))]  # fmt: skip


def test_where_there_is_no_interval_no_bar_is_drawn():
    frames, marks = comparison(("a",), ("keep",)), style.palette(("a",))
    bare = [interval(0.5, float("nan")) for _ in range(len(frames.forgetting))]
    flat = forgetting.data(frames.forgetting.assign(gain=bare, change=bare), TASK)
    panel = forgetting._draw(flat, marks, narrow=False).axes[0]
    colour = marks["a"].colour
    assert not [x for x in panel.lines if x.get_color() == colour and x.get_linestyle() == "-"]


def test_where_the_methods_cluster_each_panel_has_a_close_up_of_them():
    frames, marks = comparison(("a", "b"), ("keep",)), style.palette(("a", "b"))
    far = frames.forgetting.assign(gain=[interval(0.9 + i / 100) for i in range(6)])
    with style.style():
        figure = forgetting._draw(forgetting.data(far, TASK), marks, narrow=False)
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["keep", "keep, close up"]
    wide, near = (panel.get_xlim() for panel in figure.axes)
    assert wide[0] < 0 and 0.85 < near[0] < 0.88 and 0.95 < near[1] < 0.97


@pytest.mark.parametrize(
    ("shares", "low", "high"), [([0, 0], 0, 0.05), ([1, 1], 0.95, 1), ([0, 1], 0, 1)]
)
def test_an_axis_of_shares_shows_no_shares_below_none_or_above_all(shares, low, high):
    room = 0.05 * (high - low)
    limits = curves._window(pd.Series(shares, dtype=float))
    assert limits == pytest.approx((low - room, high + room))


def test_tiles_say_what_the_matrix_says():
    figure = figure_of("pairwise", ("a", "b"))
    texts = Counter(text.get_text() for text in figure.axes[0].texts)
    assert texts == {"−10.0": 1, "+10.0": 1}


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("names", [("a", "b"), MANY], ids=["two", "twelve"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_word_of_a_figure_is_cut_off(kind, names, narrow, monkeypatch):
    with style.style():
        assert_no_word_is_cut_off(figure_of(kind, names, narrow=narrow), monkeypatch)


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_titles_of_the_curves_overlap_no_other_panel(narrow):
    flat = curves.data(comparison(metrics=METRICS).curves, TASK)
    marks = style.palette(NAMES)
    with style.style():
        figure = curves._draw(flat, list(METRICS), marks, narrow=narrow)
        figure.draw_without_rendering()
        titles = [panel._left_title.get_window_extent() for panel in figure.axes]
        for a, b in combinations(titles, 2):
            assert not a.overlaps(b)
        for title, panel in zip(titles, figure.axes, strict=True):
            for other in figure.axes:
                assert other is panel or not title.overlaps(other.get_window_extent())


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("names", [NAMES, MANY], ids=["three", "twelve"])
@pytest.mark.parametrize("kind", ["pairwise", "instructions"])
def test_what_a_tile_says_stays_inside_it(kind, names, narrow):
    with style.style():
        figure = figure_of(kind, names, narrow=narrow)
        figure.draw_without_rendering()
        for panel in figure.axes:
            columns = panel.get_xlim()[1]
            tile = panel.get_window_extent().width / columns
            assert max(text.get_window_extent().width for text in panel.texts) <= tile


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_labels_of_effects_do_not_overlap(narrow):
    effects = comparison().effects
    effects = effects.assign(methods=[MANY[:4]] * len(effects))
    with style.style():
        flat = factorial.data(effects, TASK)
        figure = factorial._draw(flat, {text: text for text in flat["methods"]}, narrow=narrow)
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 6
    for a, b in combinations(boxes, 2):
        assert not a.overlaps(b)


def test_figures_have_the_width_of_a_page_or_of_a_column(drawn):
    assert all(300 < one.narrow[0] <= 322 for one in drawn.values())
    assert all(one.wide[0] <= 662 for one in drawn.values())


# --- the summary --------------------------------------------------------------------------------


def test_the_summary_has_a_panel_a_measure_and_a_line_a_method_in_the_order_of_the_marks():
    marks = style.palette(("sft_context", "opcd", "control_null"), {"control_null"})
    fields = separated(("control_null", "opcd", "sft_context"), controls=("control_null",))
    flat = summary.data(fields["groups"], GAPS, marks, [TASK])
    with style.style():
        figure = summary._draw(flat, marks, narrow=False)
    assert [panel.get_title(loc="left") for panel in figure.axes] == [
        "gain on test", "efficiency", "keep", "obey",
    ]  # fmt: skip
    first = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert first == ["SFT", "OPCD", "", "Null control"]
    point = next(x for x in figure.axes[0].lines if x.get_color() == marks["opcd"].colour)
    assert sorted(point.get_xdata()) == pytest.approx([0.18, 0.22])


def test_letters_stand_only_where_they_tell_methods_apart():
    names = ("a", "b")
    marks = style.palette(names)
    flat = summary.data(separated(names)["groups"], GAPS, marks, [TASK])
    with style.style():
        figure = summary._draw(flat, marks, narrow=False)
    said = [[text.get_text() for text in panel.texts] for panel in figure.axes]
    assert said == [["b", "a"], ["", ""], ["", ""], ["", ""]]


def test_the_summary_marks_where_the_in_context_teacher_stands(drawn):
    data = drawn["summary"].data
    assert set(data.loc[data["kind"] == "gain", "gap"]) == {0.9}
    assert data.loc[data["kind"] != "gain", "gap"].isna().all()
    assert "SFT +30.0 (a)" in drawn["summary"].alt


def test_measures_in_nats_have_an_axis_in_nats():
    names = ("a", "b")
    groups = separated(names, ("drift",))["groups"]
    groups = groups.assign(unit=["nats" if m == "drift" else "share" for m in groups["measured"]])
    marks = style.palette(names)
    with style.style():
        figure = summary._draw(summary.data(groups, {}, marks, [TASK]), marks, narrow=True)
    assert figure.axes[2].get_xlabel() == "change (nats)"


# --- files --------------------------------------------------------------------------------------


def test_every_figure_has_all_its_files(drawn):
    assert tuple(drawn) == KINDS
    names = [one.name for one in drawn.values()]
    assert names == ["summary", "frontier-toy", "forgetting-toy", "retention-steps-toy",
                     "curves-toy", "factorial-toy", "pairwise-toy",
                     "instructions-toy"]  # fmt: skip
    rendered = catalogue.render_all(list(drawn.values()))
    assert set(rendered) == {f"figures/{name}{suffix}" for name in names for suffix in SUFFIXES}


def test_the_csv_is_the_data_drawn(drawn):
    for one in drawn.values():
        again = pd.read_csv(io.BytesIO(one.files[".csv"]))
        assert list(again.columns) == list(one.data.columns)
        for column in again.select_dtypes("number"):
            wanted = one.data[column].astype(float)
            np.testing.assert_allclose(again[column].astype(float), wanted, rtol=1e-5, atol=1e-12)


def test_the_same_data_give_the_same_bytes(drawn):
    frames = comparison()
    again = frontier.drawn(frames.frontier, frames.areas, TASK, style.palette(NAMES))
    assert again.files == drawn["frontier"].files


def test_a_matplotlibrc_changes_nothing(drawn):
    frames = comparison()
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.fonttype": "path"}):
        again = factorial.drawn(frames.effects, TASK, style.palette(NAMES))
    assert again.files == drawn["factorial"].files


def test_no_file_carries_a_date_or_asks_for_anything(drawn):
    for one in drawn.values():
        text = one.files[".svg"].decode()
        assert "dc:date" not in text and "<script" not in text
        links = set(re.findall(r'(?:href|src)="([^#][^"]*)"', text))
        assert not links, links


def numbers(path):
    """The points of an SVG path of straight lines, which may go from point to point."""
    x = y = 0.0
    for command, place in re.findall(r"([MLl])([^MLl]*)", path):
        a, b = map(float, re.findall(r"-?(?:\d+\.?\d*|\.\d+)", place))
        x, y = (x + a, y + b) if command == "l" else (a, b)
        yield x, y


def test_every_svg_is_xml_without_a_group_around_a_single_line(drawn):
    for one in drawn.values():
        for suffix in (".svg", "-narrow.svg"):
            assert (
                ElementTree.fromstring(one.files[suffix]).tag == "{http://www.w3.org/2000/svg}svg"
            )
            text = one.files[suffix].decode()
            assert not re.search(r'<g id="\w+">\s*<path [^>]*/>\s*</g>', text)


def test_a_long_line_lies_where_it_was_drawn_to_a_tenth_of_a_point():
    random = np.random.default_rng(0)
    places = random.uniform(0.0, 700.0, (60, 2))
    places[10:13] = [[0.04, 0.0], [0.06, 10.0], [10.0, 0.5]]
    drawn = [
        f"{'M' if k in (0, 30) else 'L'} {x:.6f} {y:.6f} \n" for k, (x, y) in enumerate(places)
    ]
    short = files._short(re.match("(?s).*", "".join(drawn)))
    np.testing.assert_allclose(list(numbers(short)), places, atol=0.0501)
    assert len(short) < 0.5 * len("".join(drawn)) and short.count("M") == 2


def test_names_are_text_in_the_fonts_that_readers_have(drawn):
    text = drawn["pairwise"].files[".svg"].decode()
    assert ">OPCD</text>" in text and text.count("Verdana") == 1 and "<metadata" not in text


def test_columns_without_room_for_names_have_the_numbers_of_their_rows():
    names = [f"a method with quite a long name [parameter={k}]" for k in range(12)]
    both = [(i, j) for i in range(12) for j in range(12) if i != j]
    flat = pd.DataFrame(
        [("test", names[i], names[j], 0.1, 0.0, 0.2, 1.0) for i, j in both], columns=pairwise.DATA
    )
    marks = {name: style.Mark(style.INK, "o", name) for name in names}
    with style.style():
        panel = pairwise._draw(flat, marks, narrow=True).axes[0]
        wide = pairwise._draw(flat[flat["row"] < names[2]], marks, narrow=False).axes[0]
    assert [text.get_text() for text in panel.get_xticklabels()] == [str(k + 1) for k in range(12)]
    assert panel.get_yticklabels()[11].get_text().startswith("12 · a method")
    boxes = [text.get_window_extent() for text in panel.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in neighbours(boxes))
    assert wide.get_xticklabels()[0].get_text().startswith("a method")


def test_on_a_dark_page_every_colour_of_a_drawing_has_another(drawn):
    for one in drawn.values():
        for suffix in (".svg", "-narrow.svg"):
            text = one.files[suffix].decode()
            style_of, _, shapes = text.partition("</style>")
            rules = re.findall(
                r'\[style\*="(fill|stroke): (#[0-9a-f]{6})"\]\{\1: (#[0-9a-f]{6}) !important\}',
                style_of.partition("@media (prefers-color-scheme: dark)")[2],
            )
            used = set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})\b", shapes))
            assert {(name, light) for name, light, _ in rules} == used
            assert all(style.DARK[light] == dark for _, light, dark in rules)
            assert not re.search(r'(fill|stroke)="#', shapes), "styles alone have colours"


def test_a_colour_without_a_dark_one_is_an_error():
    with pytest.raises(KeyError, match="#123456"):
        files.adaptive(b'<style></style><path style="fill: #123456"/>')


def test_nothing_to_draw_gives_no_figure():
    assert draw(empty()) == []


def test_a_task_gets_only_the_figures_that_it_has_data_for():
    full, none = comparison(), empty()
    only = type(full)(**{**vars(none), "matrix": full.matrix})
    assert [one.kind for one in draw(only)] == ["pairwise"]


def test_drawing_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys; from report_comparison import comparison\n"
        "from opcd_bench.report.figures import factorial, style\n"
        "marks = style.palette(['opcd', 'forward_kl', 'sft_context'])\n"
        "factorial.drawn(comparison().effects, 'toy', marks)\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": here, "HOME": str(tmp_path)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_control_codes_in_names_reach_no_drawing():
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure = Figure()
        figure.text(0.5, 0.5, "a\x1b[2Jb\u202e", gid="x\x07y")
        drawn = files._svg(figure).decode()
    assert "\x1b" not in drawn and "\u202e" not in drawn and "\x07" not in drawn
    assert "\\x1b[2Jb" in drawn


@pytest.mark.parametrize("width", [style.COLUMN, style.PAGE])
def test_a_legend_is_no_wider_than_its_figure_and_as_high_as_it_is_said_to_be(width):
    names = ("opcd", "opcd_stop_gradient[by=grpo,by_reads=context,k=20,weights=adapted]", "jsd")
    handles = style.handles(style.palette(names), names)
    with style.style():
        figure, _ = style.grid(1, 1, (width, 2 + style.legend_height(handles, width)))
        style.legend(figure, handles)
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    assert box.x0 >= 0 and box.x1 <= width
    assert box.height <= style.legend_height(handles, width)
