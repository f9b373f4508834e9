"""Answers to math problems: read from a reply, brought to DAPO's normal form, compared."""

from __future__ import annotations

import re
from fractions import Fraction

from opcd_bench.envs.thinking import without_thinking
from opcd_bench.errors import MissingPackage

TIMEOUT = 3
"""Seconds that math-verify may take to read an answer, or to compare two."""

_ANSWER_LINE = re.compile(r"Answer\s*:\s*([^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?")

_REWRITTEN = (
    *((article, "") for article in ("an ", "a ")),
    (".$", "$"),
    (r"\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (r",\text{and}", ","),
    (r"\text{and}", ","),
    (r"\text{m}", r"\text{}"),
)
_UNITS = (
    "square ways integers dollars mph inches hours km units \\ldots sue points feet minutes digits "
    "cents degrees cm gm pounds meters meals edges students childrentickets multiples"
).split()
_TEX = (
    *(rf"\text{{{inside}}}" for inside in ("s", ".", "\ns")),
    r"\text{}^2",
    r"\text{}^3",
    *(rf"\text{{{inside}}}" for inside in ("\n", "")),
    r"\mathrm{th}",
    r"^\circ",
    r"^{\circ}",
    r"\;",
    r",\!",
    "{,}",
    '"',
    r"\dots",
)


def read_answer(reply: str) -> str | None:
    r"""The answer that a reply gives, as it is written; None where it gives none.

    It is the rest of the last line that says ``Answer:``, or else the inside of the last
    ``\boxed{…}``. What is thought is not read; all that is said is, where DAPO's own reward reads
    the last 300 characters.
    """
    said = without_thinking(reply)
    lines = _ANSWER_LINE.findall(said)
    found = lines[-1] if lines else _boxed(said)
    return found.strip() if found and found.strip() else None


def _boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{…}`` with balanced braces."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    first = start + len(r"\boxed{")
    depth = 1
    for place in range(first, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[first:place]
    return None


def normal_form(answer: str) -> str:
    """An answer as DAPO compares it: right of the last ``=``, without units, text and spaces.

    After Lewkowycz et al. 2022 (arXiv 2206.14858, appendix D.1), as DAPO's reward has it. It keeps
    Markdown's asterisks and decimals' zeros: ``**5`` and ``5.0`` are not ``5``.
    """
    left = answer.rpartition("=")[2]
    for text, instead in _REWRITTEN:
        left = left.replace(text, instead)
    for text in (*_UNITS, *_TEX):
        left = left.replace(text, "")
    left = re.sub(r".*?\$(.*?)\$.*", r"$\1$", left)
    for macro in ("text", "textbf", "overline"):
        left = re.sub(rf"\\{macro}{{(.*?)}}", r"\1", left)
    left = re.sub(r"\\boxed{(.*)}", r"\1", left)
    left = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", left)
    left = re.sub(r"sqrt([^{])", r"sqrt{\1}", left)
    left = left.replace("$", "")
    digits = left.replace(",", "")
    return digits.strip() if digits.isdigit() else left.strip()


def number_of(answer: str) -> Fraction | None:
    """The number that an answer in words says: ``$1,234.50``, ``72 clips``, ``48 + 24 = 72``.

    It is the first one right of the last ``=``; None where there is none.
    """
    found = _NUMBER.search(answer.rpartition("=")[2].replace("\\$", "").replace("$", ""))
    if found is None:
        return None
    above, _, below = re.sub(r"[,\s]", "", found[0]).partition("/")
    if below and int(below) == 0:
        return None
    return Fraction(above) / int(below or 1)


def equivalent(reference: str, answer: str) -> bool:
    """Whether math-verify takes two answers for the same; False for what it cannot read.

    Answers are read as TeX, and then as text. It times itself with an alarm signal, so this is for
    the main thread. Raises MissingPackage.
    """
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise MissingPackage(
            "math-verify", 'pip install "math-verify[antlr4_13_2]>=0.9,<0.10"', str(error)
        ) from None

    gold = parse(f"${reference.strip('$ ')}$", parsing_timeout=TIMEOUT)
    return any(
        verify(gold, parse(form, parsing_timeout=TIMEOUT), timeout_seconds=TIMEOUT)
        for form in (f"${answer.strip('$ ')}$", answer)
    )
