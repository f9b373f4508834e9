"""MedMCQA: medical entrance questions with four options, answered by a letter in answer tags.

The Hub's ``openlifescienceai/medmcqa`` or ``<data_dir>/medmcqa/{train,validation}``. Its own test
labels are not published, so test is 500 questions of its validation; dev is carved from train, of
which 10,000 are kept. Its explanations are the examples' hints.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from opcd_bench.tasks._prompts import shipped

from opcd_bench import Context, DataError, DataTask, Example, Grade, Split, tagged_answer
from opcd_bench.envs import data_sets
from opcd_bench.envs.data_files import Row, changed
from opcd_bench.envs.data_sets import DataPart, HubSplit, value_of
from opcd_bench.envs.data_splits import divided

LETTERS = "ABCD"
OPTIONS = ("opa", "opb", "opc", "opd")
SIZES: Mapping[Split, int | None] = {"train": 10_000, "dev": 500, "test": 500}
PARTS = (
    DataPart("train", ("train",), HubSplit("openlifescienceai/medmcqa", "train")),
    DataPart("test", ("validation", "dev"), HubSplit("openlifescienceai/medmcqa", "validation")),
)
_MARKUP = re.compile(r"\\(?:boxed|text|textbf|mathrm)(?=\s*\{)|[*_`${}]")
_LETTER = re.compile(
    rf"""\s*+(?:(?:the\s++)?(?:(?:correct|right|best)\s++)?(?:option|answer)\b(?:\s++is\b)?[\s:]*+)?+
    [(\[\s]*+(?P<letter>[{LETTERS}])
    (?P<rest>[)\].:\s]*+|(?:[)\].:]|\s*+[(]|[^\S\n]*+\n|\s+[-–—]|[-–—]\s).+)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_ANOTHER = re.compile(
    rf"""(?:^|[-–—,;.:\n(\[]|\b(?:or|and|but|not|option|answer)\b)[\s(\[]{{0,4}}
    ([{LETTERS}])[^\S\n]{{0,4}}(?:[)\].:–—-]|\n|$)""",
    re.IGNORECASE | re.VERBOSE,
)
"""A letter as an option is named: alone in a line or clause, with a mark behind it."""
FORM = (
    "Which option is best? Reason briefly if you need to, and end with its letter in answer tags: "
    "<answer>LETTER</answer>"
)


class MedMcqa(DataTask):
    """One reply a question; right if the letter in its last answer tags is."""

    name = "medmcqa"
    version = 3
    summary = "medical questions with four options (MedMCQA); the context is a system prompt"
    choices = tuple(LETTERS)

    def context(self) -> Context:
        """How an examiner goes about it, in the system message."""
        return Context(shipped("medical"), "system")

    @classmethod
    def load(cls, data_dir: str | None) -> Mapping[Split, Sequence[Example]]:
        """Questions with the letter of the right option."""
        pools = data_sets.pools(cls.name, PARTS, data_dir=data_dir)
        rows = divided(
            cls.name,
            {split: _numbered(pool) for split, pool in pools.items()},
            text=lambda row: "\n".join([_question(row), *sorted(_options(row))]),
            sizes=SIZES,
            answer=lambda row: _options(row)[row["cop"]],
        )
        return {split: [_example(row) for row in of] for split, of in rows.items()}

    def question(self, example: Example) -> str:
        """The question, its options by letter, and the form of the answer."""
        options = zip(LETTERS, example.content["options"], strict=True)
        listed = "\n".join(f"{letter}. {option}" for letter, option in options)
        return f"{example.content['question']}\n\n{listed}\n\n{FORM}"

    def graded(self, example: Example, reply: str) -> Grade:
        """``B``, ``(b)``, ``Option B``, ``B (Aspirin)`` are B; no letter or two are no answer."""
        read = tagged_answer(reply)
        if read is None:
            return Grade(None, None, "no <answer> tags")
        found = _LETTER.fullmatch(_MARKUP.sub("", read))
        if found is None:
            return Grade(None, read, f"no letter of {LETTERS} in the answer tags: {read[:60]!r}")
        letter = found["letter"].upper()
        own = str(example.content["options"][LETTERS.index(letter)])
        rest = re.sub(re.escape(own), "…", found["rest"], flags=re.IGNORECASE)
        others = {one.upper() for one in _ANOTHER.findall(rest)} - {letter}
        if others:
            return Grade(None, read, f"{letter} and {min(others)} in the answer tags")
        return Grade(float(letter == example.reference), letter, f"it is {example.reference}")


def _numbered(rows: Iterable[Row]) -> list[Row]:
    """Rows whose ``cop`` counts from 0: the Hub's does, the published files' counts from 1."""
    found = [changed(row, {"cop": str(value_of(row, "cop", "medmcqa"))}) for row in rows]
    labels = {row["cop"] for row in found}
    if labels <= set("0123") and "0" in labels:
        first = 0
    elif labels <= set("1234") and "4" in labels:
        first = 1
    else:
        odd = next((row for row in found if row["cop"] not in list("01234")), None)
        raise DataError(
            f"{data_sets.where(odd, 'medmcqa')}: cop is the place of the right option, in "
            "all rows 0 to 3 or in all 1 to 4; here it is "
            f"{', '.join(sorted(labels)[:6]) or 'never said'}"
        )
    return [changed(row, {"cop": int(row["cop"]) - first}) for row in found]


def _question(row: Row) -> str:
    return str(value_of(row, "question", "medmcqa")).strip()


def _options(row: Row) -> list[str]:
    return [str(value_of(row, option, "medmcqa")).strip() for option in OPTIONS]


def _example(row: Row) -> Example:
    hint = str(row.get("exp") or "").strip()
    content = {"question": _question(row), "options": _options(row)}
    return Example(content, LETTERS[row["cop"]], hint or None)


TASK = MedMcqa
