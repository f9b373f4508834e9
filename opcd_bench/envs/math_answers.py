"""Answers to math problems: read from a reply, brought to DAPO's normal form, or to a number.

Every reader passes over a reply once or a fixed number of times, whatever is in it.
"""

from __future__ import annotations

import re
from fractions import Fraction

from opcd_bench.envs.thinking import without_thinking

_ANSWER_LINE = re.compile(r"Answer[\s*_`}]{0,12}[:：]([^\n]*)", re.IGNORECASE)
_MARKUP = re.compile(
    r"""\s*+(?:(?:```[A-Za-z]*$|\\(?:boxed|fbox|displaystyle|text(?:bf|it)?)(?![A-Za-z])
    |\\(?:begin|end)\{[a-z]+\*?\}|[*_`~#>$\\()\[\]{}|&:：-])\s*+)*+""",
    re.VERBOSE,
)
"""A line that says nothing: the marks of Markdown and TeX around an answer, or none."""
_BULLET = re.compile(r"[-*+•]\s+")
_DAPO_LINE = re.compile(r"Answer\s*:\s*([^\n]+)", re.IGNORECASE)
_BRACE = re.compile(r"\\boxed\{|[{}]")

MOST_DIGITS = 300
"""The longest number that is read, in characters; int() gives up at 4,300 digits."""
MOST_POWER = 300
"""The largest exponent that is worked out."""

_THIN = "\u2009"
_AS_TYPED: dict[int | str, str] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full width
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63", "-"),
    **dict.fromkeys("\u00a0\u2007\u2008\u2009\u200a\u202f\u205f\u3000", _THIN),
    **dict.fromkeys("\u200b\u2060\ufeff", ""),
    **dict.fromkeys("\u00b7\u00d7\u22c5", "*"),
    **{"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "\u2044": "/", "\u2019": "'"},
}
"""Digits, signs and blanks as people and models write them -> ASCII, and thin spaces."""
_PLAIN = str.maketrans(_AS_TYPED)

_TEX: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\\?\$|\\!"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,;: ]|~|\\(?:thinspace|quad)\b"), _THIN),
    (re.compile(r"\\(?:text|textbf|mathrm|mbox)\s?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\[dtc]?frac\s?\{\s?(\d+)\s?\}\s?\{\s?(\d+)\s?\}"), r" \1/\2 "),
    (re.compile(r"\\[dtc]?frac\s?(\d)\s?(\d)"), r" \1/\2 "),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(r"(?<![\d)!])!=|\\neq?(?![A-Za-z])"), "≠"),
    (re.compile(r"\b(?:minus|negative)\s(?=\d)", re.IGNORECASE), "-"),
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
"""Powers of ten, by the words for them."""
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w)\]}}-])-[ \u2009]{{0,2}}(?=[\d.]))?
    (?:
        (?P<whole>\d+)[ \u2009]{{1,2}}(?P<above>\d+)[ ]?/[ ]?(?P<below>\d+)
      | (?P<base>\d+)(?:[ ]?\^[ ]?|\*\*)\{{?[ ]?(?P<exponent>[-+]?\d+)
      | (?P<number>
            (?:\d{{1,3}}(?:[ \u2009'_]\d{{3}})+
              | \d{{1,3}}(?:,\d{{3}})+
              | \d{{1,2}}(?:,\d\d)+,\d{{3}}
            )(?!\d)(?:\.\d+)?
          | \d+(?:\.\d+)?
          | \.\d+
        )
        (?:
            [eE](?P<e>[-+]?\d+)(?!\w)
          | [ \u2009]{{0,2}}[*xX][ \u2009]{{0,2}}10[ ]?\^[ ]?\{{?[ ]?(?P<power>[-+]?\d+)
        )?
        (?:\s{{0,3}}/\s{{0,3}}(?P<over>\d+))?
    )
    (?P<scale>(?:[\s*_]{{1,3}}(?i:{"|".join(_SCALES)})\b(?!-)){{1,2}})?
    """,
    re.VERBOSE,
)
_GOES_ON = re.compile(r"\^|(?<=[A-Za-z])\s{1,3}\d")
"""Behind a number: it is raised further, or ``1 million`` is followed by ``200 thousand``."""
_WORKED_ON = re.compile(
    r"(?:(?:\s[A-Za-z]+)?[\s)}\]]{0,3}(?:\*(?!\*)|\+)|[\s)}\]]{0,3}[xX/÷]|\s-\s)"
    r"\s{0,3}(?:[({\[]\s?)?-?\.?\d"
)
"""Behind a number: it is part of an expression that is not worked out."""
_JOINED = re.compile(
    r"""(?P<unit>\s?\\?%|\s[A-Za-z]+)?[\s)}\]*_]{0,4}
    (?:[,;]\s{0,3}(?:(?:or|and)\b)?|\b(?:or|and)\b)[\s({\[*_]{0,4}(?:\\boxed\{)?""",
    re.VERBOSE | re.IGNORECASE,
)
_VARIABLE = re.compile(r"[A-Za-z](?:_?\{?\w\}?)?\s*")
_NEAR = 40
"""Characters before and behind a number in which words about it are looked for."""
_DENIED = re.compile(r"(?:\bnot|n't|≠)\W*(?:equal\s+to\W*)?\Z", re.IGNORECASE)
_MINUS = re.compile(r"(?:\b(?:is|are|equals?)|[^\w)\]}%.])\Z|\A\Z", re.IGNORECASE)
"""What a dash follows that is a minus though a blank stands behind it; else it joins words."""

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
_DROPPED = (
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

    It is the rest of the last line that says ``Answer:`` (also ``**Answer**:`` and ``Answer：``),
    or the first line below where that rest is mark-up alone (``**Answer:**``, ``\[``, a fence).
    Where no label has an answer, it is the inside of the last whole ``\boxed{…}``. What is thought
    is not read.
    """
    said = without_thinking(reply)
    below = len(said)
    for line in reversed(list(_ANSWER_LINE.finditer(said))):
        if _says(line[1]):
            return line[1].strip()
        # A minus in front of a line of its own and a blank is a list's.
        for found in said[line.end() : below].split("\n"):
            if _says(found):
                return _BULLET.sub("", found.lstrip(), count=1).strip()
        below = said.rfind("\n", 0, line.start()) + 1
    return _whole(_boxed(said))


def _says(line: str) -> bool:
    """Whether there is more to a line than blanks and mark-up."""
    return _MARKUP.fullmatch(line) is None


def dapo_answer(reply: str) -> str | None:
    r"""The answer as DAPO's own reward finds it, or else the last whole box; None without either.

    DAPO reads the last 300 characters and no box; here all that is said is read. ``**Answer**:``
    is no answer to it.
    """
    said = without_thinking(reply)
    lines = _DAPO_LINE.findall(said)
    return _whole(lines[-1] if lines else _boxed(said))


def _whole(found: str | None) -> str | None:
    return found.strip() or None if found else None


def _boxed(text: str) -> str | None:
    r"""The inside of the last ``\boxed{…}`` that is closed; one that is cut off hides no other."""
    unclosed: list[int | None] = []
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            unclosed.append(brace.end() if brace[0] != "{" else None)
        elif unclosed and (begin := unclosed.pop()) is not None:
            last = max(last or (begin, 0), (begin, brace.start()))
    return None if last is None else text[slice(*last)]


def normal_form(answer: str) -> str:
    """An answer as DAPO compares it: right of the last ``=``, without units, text and spaces.

    After Lewkowycz et al. 2022 (arXiv 2206.14858, appendix D.1), as DAPO's reward has it. It keeps
    Markdown's asterisks and decimals' zeros: ``**5`` and ``5.0`` are not ``5``.
    """
    left = answer.rpartition("=")[2]
    for text, instead in _REWRITTEN:
        left = left.replace(text, instead)
    for text in (*_UNITS, *_DROPPED):
        left = left.replace(text, "")
    left = "\n".join(map(_unwrapped, left.split("\n")))
    left = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", left)
    left = re.sub(r"sqrt([^{])", r"sqrt{\1}", left)
    left = left.replace("$", "")
    digits = left.replace(",", "")
    return digits.strip() if digits.isdigit() else left.strip()


def _unwrapped(line: str) -> str:
    """A line out of its dollars, text macros and box; each as DAPO's patterns do it."""
    left = _in_dollars(line)
    for macro in ("text", "textbf", "overline"):
        left = _without_macro(left, macro)
    return _out_of_box(left)


def _in_dollars(line: str) -> str:
    """What stands between the first two dollars of a line, with them; else the line."""
    parts = line.split("$", 2)
    return f"${parts[1]}$" if len(parts) == 3 else line


def _without_macro(line: str, macro: str) -> str:
    r"""``\macro{inside}`` -> ``inside``, up to the next closing brace; else as it is."""
    opens = f"\\{macro}{{"
    found, place = [], 0
    while (start := line.find(opens, place)) >= 0:
        end = line.find("}", start + len(opens))
        if end < 0:
            break
        found += [line[place:start], line[start + len(opens) : end]]
        place = end + 1
    return "".join([*found, line[place:]])


def _out_of_box(line: str) -> str:
    r"""``\boxed{inside}`` -> ``inside``, from the first box to the last brace of a line."""
    before, opens, rest = line.partition(r"\boxed{")
    inside, end, after = rest.rpartition("}")
    return f"{before}{inside}{after}" if opens and end else line


def number_of(answer: str) -> Fraction | None:
    """The number that an answer in words says: ``$1,234.50``, ``72 clips``, ``48 + 24 = 72``.

    It is the first one right of the last ``=``, or of an earlier one where an expression follows
    that is not worked out (``15 = 5 x 3``). None where there is none, where it is `undecided`, or
    where none is of a size that is worked out (`MOST_DIGITS`, `MOST_POWER`). Groups of three digits
    may stand apart, by commas, blanks or TeX's spaces; ``million`` and the like are factors.
    """
    sides, place, found = _result(answer)
    if found is None or _denied(sides[place], found) or _another(sides, place, found):
        return None
    return _signed(sides[place], found)


def undecided(answer: str) -> bool:
    """Whether an answer denies its number, or names a different one beside it.

    So do ``not 5``, ``5 or 6``, ``5, 6`` and ``x = 5, y = 6``; but ``1/2 or 0.5`` is one number,
    and ``3 hours and 30 minutes`` or ``72 clips, 24 in May`` say what their first is of.
    """
    sides, place, found = _result(answer)
    return found is not None and (_denied(sides[place], found) or _another(sides, place, found))


def _result(answer: str) -> tuple[list[str], int, re.Match[str] | None]:
    """Sides of an answer's equations, and the place and first number of the last one worked out."""
    said = answer.translate(_PLAIN)
    for pattern, instead in _TEX:
        said = pattern.sub(instead, said)
    sides = said.split("=")
    for place in range(len(sides) - 1, -1, -1):
        found = _NUMBER.search(sides[place])
        if found is None or not _WORKED_ON.match(sides[place], found.end()):
            return sides, place, found
    return sides, 0, None


def _denied(side: str, found: re.Match[str]) -> bool:
    return _DENIED.search(_before(side, found)) is not None


def _before(side: str, found: re.Match[str]) -> str:
    return side[max(0, found.start() - _NEAR) : found.start()]


def _another(sides: list[str], place: int, found: re.Match[str]) -> bool:
    """Whether a different number, of the same unit or none, is joined to this one.

    By ``or``, ``and`` or a comma; or it is said of another variable just before (``x = 3, y =``).
    """
    side, value = sides[place], _signed(sides[place], found)
    joined = _JOINED.match(side, found.end())
    second = None if joined is None else _NUMBER.match(side, joined.end())
    if joined is not None and second is not None:
        unit = (joined["unit"] or "").strip(" \\\u2009").casefold().removesuffix("s")
        behind = side[second.end() : second.end() + _NEAR].lstrip(" \\*_)}]\u2009").casefold()
        percent = behind.startswith("%")
        alike = behind.startswith(unit) or not behind[:1].isalpha()
        if percent == (unit == "%") and alike:
            return _signed(side, second) != value
    if place < 2 or (first := _NUMBER.search(sides[place - 1])) is None:
        return False
    joined = _JOINED.match(sides[place - 1], first.end())
    if joined is None or not _VARIABLE.fullmatch(sides[place - 1], joined.end()):
        return False
    return _signed(sides[place - 1], first) != value


def _signed(side: str, found: re.Match[str]) -> Fraction | None:
    """The value of a number with its sign; None if it is not of a size that is worked out."""
    if len(found[0]) > MOST_DIGITS or _GOES_ON.match(side, found.end()):
        return None
    value, sign = _value(found), found["sign"]
    if value is None or not sign:
        return value
    minus = sign == "-" or _MINUS.search(_before(side, found).rstrip(" \u2009*_`$-"))
    return -value if minus else value


def _value(found: re.Match[str]) -> Fraction | None:
    """The value of a number without its sign."""
    value = _unscaled(found)
    if value is None or not found["scale"]:
        return value
    words = re.findall(r"[a-z]+", found["scale"].casefold())
    return value * Fraction(10 ** sum(_SCALES[word] for word in words))


def _unscaled(found: re.Match[str]) -> Fraction | None:
    if found["whole"]:
        part = _ratio(Fraction(found["above"]), found["below"])
        return None if part is None else int(found["whole"]) + part
    if found["base"]:
        return _power(Fraction(found["base"]), found["exponent"])
    number = Fraction(re.sub(r"[, \u2009'_]", "", found["number"]))
    exponent = found["e"] or found["power"]
    if exponent:
        scale = _power(Fraction(10), exponent)
        if scale is None:
            return None
        number *= scale
    return _ratio(number, found["over"]) if found["over"] else number


def _ratio(above: Fraction, below: str) -> Fraction | None:
    return above / int(below) if int(below) else None


def _power(base: Fraction, exponent: str) -> Fraction | None:
    power = int(exponent)
    if abs(power) > MOST_POWER or (base == 0 and power < 0):
        return None
    return Fraction(base**power)
