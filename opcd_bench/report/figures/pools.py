"""Gap closed against the number of contexts of a task's examples: a line a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from opcd_bench.report.analysis import statistics
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import AT_RATE, listed, summed_seeds

KIND = "pools"
DATA = [
    "line", "prompts", "contexts", "task", "gap_closed", "gap_closed_low", "gap_closed_high",
]  # fmt: skip
SILENT, NAMING = "say nothing", "name their context"
"""What prompts do."""
BEST = {
    "forward": "exact optimum of forward KL",
    "reverse": "exact optimum of reverse KL",
}
DASHES: Mapping[str, tuple[float, tuple[float, ...]]] = {
    BEST["forward"]: (0, (6, 1.5, 1, 1.5)),
    BEST["reverse"]: (0, (1, 1.2)),
}
"""Of lines: offset, and ink and gap by turns."""
APART = 0.10
"""Octaves between methods at one number of contexts, so that no interval hides another."""
FARTHEST = (-0.5, 1.5)
"""Intervals beyond are cut off, for the rest to be seen."""


def data(frame: pd.DataFrame, best: pd.DataFrame) -> pd.DataFrame:
    """`pools.pools` and `pools.best`, flat, in shares; a ``line`` is a method or an optimum."""
    prompts = [NAMING if named else SILENT for named in frame["named"]]
    lines = frame.assign(line=frame["method"], prompts=prompts)
    optima = best.assign(line=best["loss"].map(BEST), prompts=SILENT)
    both = pd.concat([one for one in (lines, optima) if len(one)], ignore_index=True)
    return both.drop(columns="gap_closed").join(look.spread(both, "gap_closed"))[DATA]


def drawn(frame: pd.DataFrame, best: pd.DataFrame, marks: Marks) -> DrawnFigure:
    """The figure of all tasks."""
    flat = data(frame, best)
    caption = (
        "How much of its gap each method closed on test (0: the base; 100: its own teacher with "
        "what it reads), against the number of contexts that a task's examples divide among "
        f"themselves (log scale), with 95 % intervals, {AT_RATE}. A gap that is not above 0 for "
        "sure has no point. "
    )
    if frame["named"].any():
        caption += "Dotted and hollow: prompts name their context. "
    if len(best):
        caption += (
            "Grey: what a student without context would close of the gap to a teacher that reads "
            "the context, were it the exact optimum of its loss, by the likeliest token on the "
            "prompts of the optimum probe. On new prompts nobody without context is right more "
            "often, on average, than the optimum of forward KL; that of reverse KL bounds nobody. "
        )
    caption += summed_seeds(list(frame["seeds"]))
    return made("", KIND, caption, _said(flat, marks), flat,
                lambda narrow: _draw(flat, marks, narrow=narrow))  # fmt: skip


def _said(flat: pd.DataFrame, marks: Marks) -> str:
    parts = []
    for (line, prompts), points in flat.groupby(["line", "prompts"], sort=False):
        name = marks[line].label if line in marks else str(line)
        each = [
            f"{look.points(row.gap_closed, decimals=1)} % with {row.contexts}"
            for row in points.itertuples()
        ]
        of = f", prompts {prompts}" if prompts == NAMING else ""
        parts.append(f"{name}{of}: {listed(each)}.")
    return "Gap closed by number of contexts. " + " ".join(parts)


def conclusion(changes: pd.DataFrame, marks: Marks) -> str:
    """One line on `pools.changes`; nothing where no method ran at both ends."""
    if changes.empty:
        return ""
    less, more, same, lone = [], [], [], []
    for row in changes.itertuples():
        name = marks[row.method].label
        told = f"{name} ({look.change(row.change.value)} points)"
        if row.seeds < statistics.FEWEST_SEEDS:
            lone.append(name)
        elif row.change.high < 0:
            less.append(told)
        elif row.change.low > 0:
            more.append(told)
        else:
            same.append(name)
    first = changes.iloc[0]
    parts = [f"less of the gap is closed by {listed(less)}"] if less else []
    parts += [f"more of it by {listed(more)}" if less else
              f"more of the gap is closed by {listed(more)}"] if more else []  # fmt: skip
    parts += [f"no difference shows with {listed(same)}"] if same else []
    parts += [f"a single training says nothing of {listed(lone)}"] if lone else []
    return f"From {many(first['first'])} to {first['last']}, {'; '.join(parts)}."


def many(contexts: float) -> str:
    """So many contexts, in words."""
    return "1 context" if contexts == 1 else f"{contexts:g} contexts"


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    width = look.COLUMN if narrow else look.PAGE
    methods = look.ordered(marks, flat["line"])
    entries = [*look.handles(marks, methods), *_entries(flat)]
    figure, (panel,) = look.grid(1, 1, (width, 3.1 + look.legend_height(entries, width)))
    for end in (0, 1):
        panel.axhline(end, color=look.RULE, linewidth=0.8, zorder=1)
    for name, dashes in DASHES.items():
        points = flat[flat["line"] == name]
        panel.errorbar(points["contexts"], points["gap_closed"],
                       yerr=look.reach(points, "gap_closed"), color=look.MUTED, linestyle=dashes,
                       linewidth=1.1, elinewidth=0.8, zorder=2)  # fmt: skip
    _methods(panel, flat, marks, methods)
    panel.set_xscale("log", base=2)
    ticks = sorted(set(flat["contexts"]))
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())
    low, high = panel.get_ylim()
    values = flat["gap_closed"]
    panel.set_ylim(max(low, min(FARTHEST[0], values.min() - 0.1)),
                   min(high, max(FARTHEST[1], values.max() + 0.1)))  # fmt: skip
    panel.set_xlabel("contexts among a task's examples")
    panel.set_ylabel("gap closed (%)")
    look.percent(panel, "y")
    look.legend(figure, entries)
    return figure


def _entries(flat: pd.DataFrame) -> list[Line2D]:
    """The legend's entries besides the methods."""
    found = [
        Line2D([], [], color=look.MUTED, linestyle=dashes, linewidth=1.1, label=name)
        for name, dashes in DASHES.items()
        if (flat["line"] == name).any()
    ]
    if (flat["prompts"] == NAMING).any():
        found.append(Line2D([], [], color=look.INK, marker="o", markerfacecolor="none",
                            linestyle=":", label=f"prompts {NAMING}"))  # fmt: skip
    return found


def _methods(panel: Axes, flat: pd.DataFrame, marks: Marks, methods: Sequence[str]) -> None:
    for at, name in enumerate(methods):
        mark = marks[name]
        aside = 2 ** (APART * (at - (len(methods) - 1) / 2))
        for prompts in (SILENT, NAMING):
            points = flat[(flat["line"] == name) & (flat["prompts"] == prompts)]
            named = prompts == NAMING
            panel.errorbar(
                points["contexts"] * aside, points["gap_closed"],
                yerr=look.reach(points, "gap_closed"), color=mark.colour,
                marker=mark.marker, linestyle=":" if named else mark.line, elinewidth=0.8,
                markerfacecolor="none" if named else mark.colour, zorder=3,
            )  # fmt: skip
