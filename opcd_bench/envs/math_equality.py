r"""Whether two answers mean the same: math-verify's word on it, for answers of bounded work.

It parses with ANTLR and computes with sympy, and either may run for hours on a short text
(``{{{{…}}}}``, ``10^{10^{10}}``). Its own alarm works on the main thread alone, and what it lets
pass depends on the load of the machine; so it is switched off, and what may take long is not asked.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Iterator

from opcd_bench.envs.math_answers import number_of, undecided
from opcd_bench.errors import MissingPackage

LONGEST = 100
"""Characters of an answer that is compared."""
DEEPEST = 6
"""Levels of its brackets; each doubles the work of the parser."""
MOST_OF_A_MARK = 4
"""Of bars, subscripts, colons, primes and slashes: they nest without saying so, as brackets do."""
MOST_DIGITS = 100
LARGEST_POWER = 100
"""Of an answer's exponents, multiplied; `POWER_OF_LETTERS` where it has variables."""
POWER_OF_LETTERS = 8

_KNOWN = frozenset(
    "frac dfrac tfrac cfrac sqrt pi cdot times div text textbf mathrm mathbf mathit mathbb "
    "operatorname left right big Big bigl bigr boxed fbox pm mp circ degree le ge leq geq lt gt "
    "neq ne approx equiv sim in cup cap infty emptyset sin cos tan cot sec csc arcsin arccos "
    "arctan log ln angle triangle dots ldots cdots quad qquad overline underline displaystyle "
    "textstyle rm bf it mbox alpha beta gamma delta theta lambda mu phi omega sigma".split()
)
"""TeX whose work is bounded by its length: no sums, products, integrals, limits, binomials."""

_MACRO = re.compile(r"\\([A-Za-z]+)")
_RAISED = re.compile(r"\^|(?<=[\w)\]}])\s*\*\*(?=\s*[\d({\\+-]|[A-Za-z])")
"""Where something is raised to a power; the asterisks of ``**34** clips`` are Markdown's."""
_POWER = re.compile(
    rf"(?:{_RAISED.pattern})\s*\{{?\s*(?:\\(?:circ|degree)|[-+]?(\d{{1,2}}))\s*\}}?(?!\s*[\d^!*.])"
)
_FACTORIAL = re.compile(r"(?<![\d.])\d{1,2}\s*!(?!\s*[!^])")
_INTEGER = re.compile(r"\$?-?\d[\d,]*\$?")
_SCIENTIFIC = re.compile(r"\d[eE][-+]?\d{3}")


def bounded(answer: str) -> bool:
    """Whether math-verify can be asked about an answer: it ends soon, whatever the machine."""
    if any(answer.count(mark) > MOST_OF_A_MARK for mark in "|_:'/"):
        return False
    if len(answer) > LONGEST or _depth(answer) > DEEPEST or _SCIENTIFIC.search(answer):
        return False
    if re.search(rf"\d{{{MOST_DIGITS + 1}}}", answer):
        return False
    if any(macro not in _KNOWN for macro in _MACRO.findall(answer)):
        return False
    powers = list(_POWER.finditer(answer))
    if len(powers) != len(_RAISED.findall(answer)):
        return False
    factorials = answer.count("!") - answer.count(r"\!")
    if factorials > 1 or len(_FACTORIAL.findall(answer)) != factorials:
        return False
    product = 1
    for power in powers:
        product *= max(1, int(power[1] or 1))
    letters = re.search(r"[A-Za-z]", _MACRO.sub("", answer)) is not None
    return product <= (POWER_OF_LETTERS if letters else LARGEST_POWER)


def _depth(text: str) -> int:
    """The most brackets of any kind that are open at once; closing ones too many count as well."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, abs(depth))
    return deepest


def equivalent(reference: str, answer: str) -> bool:
    """Whether math-verify takes two answers for the same; False for what it cannot read.

    Answers are read as TeX, and then as text, of which math-verify takes any TeX inside or else the
    last number. Beside a whole number the last number counts only where the answer says it
    (`number_of`), and nothing does in an answer that is `undecided`. What is not `bounded` is not
    read. Nothing is printed, and any thread may ask. Raises MissingPackage.
    """
    try:
        from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
    except ImportError as error:
        raise MissingPackage(
            "math-verify", 'pip install "math-verify[antlr4_13_2]>=0.9,<0.10"', str(error)
        ) from None

    if not (bounded(reference) and bounded(answer)):
        return False
    whole = _INTEGER.fullmatch(reference.strip()) is not None
    if whole and undecided(answer):
        return False
    as_text = [LatexExtractionConfig()]
    if not whole or number_of(answer) == number_of(reference):
        as_text.append(ExprExtractionConfig())
    with _silent():
        gold = parse(f"${reference.strip('$ ')}$", parsing_timeout=None)
        return any(
            verify(gold, parse(*form, parsing_timeout=None), timeout_seconds=None)
            for form in ((f"${answer.strip('$` ')}$",), (answer, as_text))
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hush math-verify's loggers, which repeat replies, and its parser's complaints."""
    loggers = [logging.getLogger(f"math_verify.{name}") for name in ("parser", "grader", "utils")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
