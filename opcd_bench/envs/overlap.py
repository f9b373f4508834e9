"""How many questions of one set another set asks too: word for word, or by words in a row."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opcd_bench.envs.data_splits import normalised
from opcd_bench.envs.task import Example, Task

IN_A_ROW = 13
"""Words in a row that two questions hardly share by chance (Brown et al. 2020, appendix C)."""

LEAST = 5
"""Words of a text that can be told from others at all: ``yes`` is no question."""

_WORD = re.compile(r"\w+")

Text = tuple[str, ...]
"""The words of a text, without case and punctuation."""


@dataclass(frozen=True)
class Overlap:
    """Of ``of`` questions: ``same`` are asked word for word, ``near`` share `IN_A_ROW` words.

    ``near`` counts those that are the same, too. Questions without a text of `LEAST` words are not
    among ``of``.
    """

    same: int
    near: int
    of: int

    def __str__(self) -> str:
        return (
            f"{self.near} of {self.of} test questions are in train word for word ({self.same}) or "
            f"share {IN_A_ROW} words in a row with it"
        )


def texts_of(content: Mapping[str, Any]) -> tuple[Text, ...]:
    """The texts that stand in the fields of an example's content, or of a document.

    Lists are left out: the options of a question repeat (``all of the above``).
    """
    fields = [value for value in content.values() if isinstance(value, str)]
    found = (tuple(_WORD.findall(normalised(field))) for field in fields)
    return tuple(text for text in found if len(text) >= LEAST)


def overlap(questions: Iterable[tuple[Text, ...]], others: Iterable[tuple[Text, ...]]) -> Overlap:
    """How many of ``questions`` are among ``others``; both as `texts_of` gives them."""
    whole: dict[Text, set[int]] = defaultdict(set)
    parts: dict[Text, set[int]] = defaultdict(set)
    count = 0
    for count, texts in enumerate(filter(None, questions), 1):
        for text in texts:
            whole[text].add(count)
            for part in _parts(text):
                parts[part].add(count)
    same: set[int] = set()
    near: set[int] = set()
    for text in (text for texts in others for text in texts):
        same |= whole.get(text, set())
        for part in _parts(text):
            near |= parts.get(part, set())
    return Overlap(len(same), len(near | same), count)


def between_splits(task: Task) -> Overlap:
    """How many test questions train asks too. Raises what reading the examples does."""
    return overlap(_asked(task.examples("test")), _asked(task.examples("train")))


def _asked(examples: Iterable[Example]) -> Iterator[tuple[Text, ...]]:
    return (texts_of(example.content) for example in examples)


def _parts(text: Text) -> Iterator[Text]:
    return (text[i : i + IN_A_ROW] for i in range(len(text) - IN_A_ROW + 1))
