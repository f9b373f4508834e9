"""How every figure looks: colours and markers of the methods, type, sizes, percent axes."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from opcd_bench.report.tables.shown_methods import CONTROL, shown

INK, MUTED, RULE, GRID = "#1f2328", "#57606a", "#8c959f", "#e1e5e9"
COLOURS = (
    "#0072b2", "#b34700", "#00936c", "#c8699f", "#c48700",
    "#1a1a1a", "#3a9bdb", "#882255", "#332288", "#80802b",
)  # fmt: skip
"""Okabe and Ito's set without its yellow, then Tol's muted wine, indigo and olive; some darkened
to stand out from white by 3:1."""
LOSSES = ("#a85306", "#e08f3c", "#f6c992", "#fbe9d3")
GAINS = ("#e0edf7", "#b0d2ea", "#6aaed6", "#1f6aa5")
LEVEL = "#f3f4f6"
ON_DEEP = "#fffffe"
"""Text on the deep ends of LOSSES and GAINS, in both themes."""

DARK: Mapping[str, str] = {
    INK: "#e6edf3", MUTED: "#a3adb8", RULE: "#6e7781", GRID: "#2a3138",
    **dict(zip(COLOURS, (
        "#2f8fd8", "#e8641a", "#17b485", "#e79ac8", "#f5c64f",
        "#f5f5f5", "#a5dbff", "#c0467a", "#7d68ea", "#a9ad55",
    ), strict=True)),
    **dict(zip(LOSSES, ("#a85306", "#854f1a", "#634020", "#3f2f20"), strict=True)),
    **dict(zip(GAINS, ("#1f3040", "#23425c", "#255a82", "#1f6aa5"), strict=True)),
    LEVEL: "#21262c", ON_DEEP: ON_DEEP,
}  # fmt: skip
"""What each colour of a figure becomes on a dark page."""

COLUMN, PAGE = 3.35, 6.9
"""Widths in inches: a column of a paper, and its page."""
ENTRY, LETTER = 0.42, 0.057
"""Inches that an entry of a legend takes beside its label, and each letter of it."""
MINUS = "\N{MINUS SIGN}"
STEPS_OF_NUMBERS = [1, 2, 2.5, 5, 10]
LEAST_SPAN = 0.02
"""Of an axis of retention, as a share."""

FONT = "DejaVu Sans"

STYLE: Mapping[str, object] = {
    "font.family": FONT,
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": RULE,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "svg.fonttype": "none",
    "svg.hashsalt": "opcd-bench",
    "pdf.fonttype": 42,
    "path.simplify": False,
}


class Mark(NamedTuple):
    """A method's colour, marker and name for readers; lines of a control are dashed."""

    colour: str
    marker: str
    label: str
    control: bool = False

    @property
    def line(self) -> Literal["-", "--"]:
        """The style of its lines."""
        return "--" if self.control else "-"


Marks = Mapping[str, Mark]
"""Method -> its mark, in the order in which methods stand everywhere."""


def palette(methods: Iterable[str], controls: Collection[str] = ()) -> dict[str, Mark]:
    """A mark for each method, the same in every report; in the order given, ``controls`` last."""
    return {
        name: Mark(
            MUTED if one.colour == CONTROL else COLOURS[one.colour],
            one.marker,
            one.label,
            one.colour == CONTROL,
        )
        for name, one in shown(methods, controls).items()
    }


def ordered(marks: Marks, present: Iterable[str]) -> list[str]:
    """The methods that are ``present``, in the order of ``marks``."""
    there = set(present)
    return [name for name in marks if name in there]


def labels(marks: Marks, present: Iterable[str]) -> list[str]:
    """Their names for readers."""
    return [marks[name].label for name in ordered(marks, present)]


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib's own defaults and `STYLE`, whatever a matplotlibrc says; restored on leaving."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def rows_of(panels: int, across: int) -> int:
    """How many rows ``panels`` need with ``across`` in each."""
    return math.ceil(panels / across)


def grid(panels: int, across: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of ``panels`` panels, ``across`` in a row; ``size`` is that of all, in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, wspace=0.03, hspace=0.04)
    figure = Figure(figsize=size, layout=layout)
    axes = figure.subplots(rows_of(panels, across), across, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[panels:]:
        spare.remove()
    return figure, flat[:panels]


def percent(axis: Axes, which: str = "xy", *, most: int = 6, signed: bool = False) -> None:
    """Shares on the axis are printed as percent or points: 0.25 as 25 (``signed``: +25)."""
    for name in which:
        one = axis.xaxis if name == "x" else axis.yaxis
        one.set_major_formatter(FuncFormatter(lambda value, _: points(value, signed=signed)))
        one.set_major_locator(MaxNLocator(most, steps=STEPS_OF_NUMBERS))


def at_least(panel: Axes, span: float) -> None:
    """Widen the y axis to ``span`` where what is drawn is flatter, so that noise looks small."""
    low, high = panel.get_ylim()
    spare = (span - (high - low)) / 2
    if spare > 0:
        panel.set_ylim(low - spare, high + spare)


def points(share: float, *, signed: bool = False, decimals: int | None = None) -> str:
    """A share as points with a real minus sign: -0.125 is −12.5; never −0."""
    value = round(100 * share, 6 if decimals is None else decimals) + 0.0
    text = f"{abs(value):g}" if decimals is None else f"{abs(value):.{decimals}f}"
    if value < 0:
        return MINUS + text
    return f"+{text}" if signed and value > 0 else text


def change(share: float) -> str:
    """A difference of shares as words have it: +1.3."""
    return points(share, signed=True, decimals=1)


def spread(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Columns ``<column>``, ``<column>_low`` and ``<column>_high`` of a column of Intervals."""
    found = list(frame[column])
    return pd.DataFrame(
        {
            column: [float(interval.value) for interval in found],
            f"{column}_low": [float(interval.low) for interval in found],
            f"{column}_high": [float(interval.high) for interval in found],
        },
        index=frame.index,
    )


def reach(points: pd.DataFrame, column: str) -> list[pd.Series]:
    """How far the intervals of `spread` reach below and above, for ``errorbar``; 0 for none."""
    value = points[column]
    ends = value - points[f"{column}_low"], points[f"{column}_high"] - value
    return [end.fillna(0.0).clip(lower=0.0) for end in ends]


def handles(marks: Marks, present: Iterable[str], *, line: bool = True) -> list[Line2D]:
    """The legend's entries of the methods that are ``present``."""
    found = [marks[name] for name in ordered(marks, present)]
    return [
        Line2D(
            [], [], color=mark.colour, marker=mark.marker, label=mark.label,
            linestyle=mark.line if line else "",
        )
        for mark in found
    ]  # fmt: skip


def legend(figure: Figure, handles: Sequence[Line2D]) -> None:
    """One legend below all panels; a label that is wider than the figure has several lines."""
    width = figure.get_figwidth()
    figure.legend(
        handles=list(handles),
        labels=_labels(handles, width),
        loc="outside lower center",
        ncols=_across(handles, width),
        handlelength=1.8,
        columnspacing=1.4,
        borderaxespad=0.2,
    )


def wrapped(text: str, letters: int) -> str:
    """A label in lines of at most so many letters, as long as its words are no longer.

    Lines end before a bracket and after a semicolon where they can.
    """
    lines: list[str] = []
    for part in re.split(r" (?=\[)|(?<=;) ", text):
        if lines and len(joined := f"{lines[-1]} {part}") <= letters:
            lines[-1] = joined
        else:
            lines.append(part)
    filled = (
        textwrap.fill(one, letters, break_long_words=False, break_on_hyphens=False) for one in lines
    )
    return "\n".join(filled)


def legend_height(handles: Sequence[Line2D], width: float) -> float:
    """Inches that `legend` takes of a figure of this width."""
    rows = rows_of(len(handles), _across(handles, width))
    more = sum(label.count("\n") for label in _labels(handles, width))
    return 0.1 + 0.165 * (rows + more)


def _across(handles: Sequence[Line2D], width: float) -> int:
    """Entries side by side: at most four, as many as their longest label leaves room for."""
    entry = ENTRY + LETTER * max(len(str(one.get_label())) for one in handles)
    return max(1, min(4, len(handles), int(width / entry)))


def _labels(handles: Sequence[Line2D], width: float) -> list[str]:
    """The labels of a legend in a figure of this width."""
    return [wrapped(str(one.get_label()), int((width - ENTRY) / LETTER)) for one in handles]
