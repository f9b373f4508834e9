"""A figure's files from one drawing: SVG for light and dark pages and for phones, PDF, PNG, CSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from opcd_bench.printable import csv_text, visible
from opcd_bench.report.figures import style

PNG_DPI, SCREEN_DPI = 200, 120
PIXELS = 96
"""CSS pixels an inch."""
COLOURS = 256
"""Of a PNG: a figure has some ten, and what lies between them and white."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure of one task: what is drawn, in words and numbers, and its files.

    ``task``: "" for a figure of all tasks. ``kind``: which figure it is. ``name``: the files' stem.
    ``caption``: what is drawn, which interval, how many seeds. ``alt``: for those who do not see
    it. ``data``: exactly what is drawn, a number a column. ``files``: suffix (".svg", "-dark.svg",
    "-narrow.svg", "-narrow-dark.svg", ".pdf", ".png", ".csv") -> bytes. ``wide`` and ``narrow``:
    (width, height) of the SVGs in CSS pixels.
    """

    task: str
    kind: str
    name: str
    caption: str
    alt: str
    data: pd.DataFrame
    files: Mapping[str, bytes]
    wide: tuple[int, int]
    narrow: tuple[int, int]


def made(
    task: str,
    kind: str,
    caption: str,
    alt: str,
    data: pd.DataFrame,
    draw: Callable[[bool], Figure],
) -> DrawnFigure:
    """Draw ``data`` wide and narrow (``draw`` is told whether narrow) and write all the files.

    The same data and the same matplotlib give the same bytes: no date, fixed ids, fixed fonts.
    """
    with style.style():
        wide, narrow = draw(False), draw(True)
        light, slim = _svg(wide), _svg(narrow)
        png, pdf = _png(wide), _pdf(wide)
    stem = f"{kind}-{task}" if task else kind
    return DrawnFigure(
        task=task,
        kind=kind,
        name=stem,
        caption=caption,
        alt=alt,
        data=data,
        files={
            ".svg": light,
            "-dark.svg": dark(light),
            "-narrow.svg": slim,
            "-narrow-dark.svg": dark(slim),
            ".pdf": pdf,
            ".png": png,
            ".csv": csv(data),
        },
        wide=_pixels(wide),
        narrow=_pixels(narrow),
    )


def dark(svg: bytes) -> bytes:
    """The same drawing in the colours of a dark page; KeyError for a colour without one."""
    return re.sub(
        rb"(?<=: )#[0-9a-f]{6}\b",
        lambda found: style.DARK[found.group().decode()].encode(),
        svg,
    )


def csv(data: pd.DataFrame) -> bytes:
    """The data as CSV: six significant digits, empty for what is not there, text as `csv_text`."""
    texts = [name for name in data if data[name].map(lambda value: isinstance(value, str)).any()]
    data = data.assign(
        **{
            name: data[name].map(lambda v: csv_text(v) if isinstance(v, str) else v)
            for name in texts
        }
    )
    data = data.rename(columns=lambda name: csv_text(str(name)))
    text: str = data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text.encode()


def _svg(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return re.sub(rb'(?<= d=)"[^"]*"', _rounded, visible(buffer.getvalue().decode()).encode())


def _rounded(path: re.Match[bytes]) -> bytes:
    """A path's coordinates to a hundredth of a point, without spare spaces: a third less bytes."""
    short = re.sub(rb"(\.\d\d)\d+", rb"\1", path.group())
    return re.sub(rb"\s*\n?([MLCQz])\s*", rb"\1", short)


def _png(figure: Figure) -> bytes:
    """On white, since a PNG cannot follow the page; of 256 colours, which takes a third."""
    buffer = BytesIO()
    figure.set_layout_engine("none")  # laid out when the SVG was drawn
    figure.savefig(
        buffer, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None}
    )
    small = BytesIO()
    with Image.open(buffer) as drawn:
        few = drawn.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        few.save(small, "png", dpi=(PNG_DPI, PNG_DPI), optimize=True)
    return small.getvalue()


def _pdf(figure: Figure) -> bytes:
    """For papers: vector graphics, letters as outlines of their fonts, no date and no maker."""
    buffer = BytesIO()
    nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    figure.savefig(buffer, format="pdf", metadata=nothing)
    return buffer.getvalue()


def _pixels(figure: Figure) -> tuple[int, int]:
    width, height = figure.get_size_inches()
    return round(width * PIXELS), round(height * PIXELS)
