"""The texts of held-out losses: the first of a data set's test split, from a folder or the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from opcd_bench.config.measures import HELD_OUT
from opcd_bench.envs.data_sets import HubSplit, rows, value_of
from opcd_bench.errors import DataError

TEXTS = 64
"""How many texts of the test split are read, its first ones."""

SHORTEST = 200
"""Characters that a paragraph of running text has at least; headings are left out."""

_HUB = {
    "gsm8k": HubSplit("openai/gsm8k", split="test", config="main"),
    "wikitext": HubSplit("Salesforce/wikitext", split="test", config="wikitext-2-raw-v1"),
}
_CALCULATION = re.compile(r"<<[^>]*>>")


def texts(name: str, data_dir: str | None) -> list[str]:
    """The texts of a measure, in the order of the data set's test split.

    From ``<data_dir>/<data set>`` if that folder is there, from the Hub otherwise. Raises
    MissingData or DataError.
    """
    return [_text(document) for document in documents(name, data_dir)]


def documents(name: str, data_dir: str | None) -> list[dict[str, str]]:
    """What the texts of a measure are made of, by its fields; raises as `texts` does."""
    source = HELD_OUT[name]
    found = rows(source, "test", data_dir=data_dir, hub=_HUB[source])
    read = list(islice((document for row in found for document in _of_row(source, row)), TEXTS))
    if not read:
        raise DataError(f"retention {name!r}: the test split of {source} holds no text")
    return read


def _of_row(source: str, row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A question and its worked solution, or a paragraph."""
    if source == "gsm8k":
        question, answer = (str(value_of(dict(row), key, source)) for key in ("question", "answer"))
        yield {"question": question, "answer": _CALCULATION.sub("", answer)}
        return
    text = str(value_of(dict(row), "text", source)).strip()
    if len(text) >= SHORTEST:
        yield {"text": text}


def _text(document: Mapping[str, str]) -> str:
    """A worked solution behind its question, or a paragraph."""
    return "\n".join(document.values())
