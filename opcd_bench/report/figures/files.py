"""A figure's files from one drawing: SVG, wide and narrow, for light and dark; PDF, PNG, CSV."""

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
FONTS = "'DejaVu Sans', Verdana, Geneva, sans-serif"
"""What an SVG's letters are set in: the font that the drawing is laid out in, or one as wide."""
SPARE = (
    (r"<metadata>.*?</metadata>", ""),
    (f"; font-family: '{style.FONT}'", ""),
    (r' transform="rotate\(-0 [-\d. ]*\)"', ""),
    (r'((?: [xy]="|[( ])-?\d+\.\d\d)\d+(?=[") ])', r"\1"),
    (r"\n +", "\n"),
    (r'(?<=[\dz]) ?\n"', '"'),
    (r"<g>\n(<use [^>]*/>)\n</g>", r"\1"),
    (r'<g id="\w+">\n(<(?:use|path) [^>]*/>|<text [^>]*>[^<]*</text>)\n</g>', r"\1"),
)
"""What an SVG says without need: (pattern, what stands in its place)."""
MANY_POINTS = 20
COLOURS = 256
"""Of a PNG: a figure has some ten, and what lies between them and white."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure of one task: what is drawn, in words and numbers, and its files.

    ``task``: "" for a figure of all tasks. ``kind``: which figure it is. ``name``: the files' stem.
    ``caption``: what is drawn, which interval, how many seeds. ``alt``: for those who do not see
    it. ``data``: what is drawn, a number a column (of training curves the means alone).
    ``files``: suffix (".svg", "-narrow.svg", ".pdf", ".png", ".csv") -> bytes. ``wide`` and
    ``narrow``: (width, height) of the SVGs in CSS pixels.
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
            ".svg": adaptive(light),
            "-narrow.svg": adaptive(slim),
            ".pdf": pdf,
            ".png": png,
            ".csv": csv(data),
        },
        wide=_pixels(wide),
        narrow=_pixels(narrow),
    )


def adaptive(svg: bytes) -> bytes:
    """The drawing, which takes the colours of a dark page on one; KeyError for one without.

    A rule for each colour, which is stronger than the style of what it colours.
    """
    used = sorted(set(re.findall(rb"(fill|stroke): (#[0-9a-f]{6})\b", svg)))
    rules = "".join(
        f'[style*="{name}: {colour}"]{{{name}: {style.DARK[colour]} !important}}'
        for name, colour in ((name.decode(), colour.decode()) for name, colour in used)
    )
    dark = f"@media (prefers-color-scheme: dark){{{rules}}}</style>"
    return svg.replace(b"</style>", dark.encode(), 1)


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
    """Letters as text, which can be found and read aloud; lines no finer than a screen shows."""
    buffer = BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    drawn = visible(buffer.getvalue().decode())
    for pattern, short in SPARE:
        drawn = re.sub(pattern, short, drawn, flags=re.DOTALL)
    drawn = drawn.replace('type="text/css">', f'type="text/css">text{{font-family: {FONTS}}}', 1)
    return re.sub(r'(?<= d=")[^"]*', _short, drawn).encode()


def _short(path: re.Match[str]) -> str:
    """A path to a hundredth of a point; one of many points to a tenth, from point to point."""
    points = re.findall(r"([ML])\s*([-\d.]+) ([-\d.]+)\s*", path.group())
    if len(points) < MANY_POINTS or re.search("[CQz]", path.group()):
        short = re.sub(r"(\.\d\d)\d+", r"\1", path.group())
        return re.sub(r"\s*\n?([MLCQz])\s*", r"\1", short)
    found, last = [], (0, 0)
    for command, *place in points:
        x, y = (round(10 * float(one)) for one in place)
        begins = command == "M"
        step = (x, y) if begins else (x - last[0], y - last[1])
        found.append(f"{'M' if begins else 'l'}{step[0] / 10:g} {step[1] / 10:g}")
        last = x, y
    return re.sub(r"(?<!\d)0\.| (?=-)", lambda spare: spare.group().strip(" 0"), "".join(found))


def _png(figure: Figure) -> bytes:
    """On white, since a PNG cannot follow the page; of 256 colours, which takes a third."""
    buffer = BytesIO()
    figure.set_layout_engine("none")  # laid out when the SVG was drawn
    figure.savefig(buffer, format="rgba", dpi=PNG_DPI, facecolor="white")
    width, height = (int(PNG_DPI * inches) for inches in figure.get_size_inches())
    drawn = Image.frombytes("RGBA", (width, height), buffer.getvalue()).convert("RGB")
    small = BytesIO()
    few = drawn.quantize(COLOURS, dither=Image.Dither.NONE)
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
