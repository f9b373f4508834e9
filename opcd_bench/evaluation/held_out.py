"""Held-out loss: mean token negative log-likelihood of texts that nothing is trained on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from opcd_bench.config.measures import HELD_OUT, NATS
from opcd_bench.envs.data_sets import HubSplit, rows, value_of
from opcd_bench.errors import DataError
from opcd_bench.evaluation.continuations import Continuation, logps
from opcd_bench.evaluation.scores import Protocol, Score
from opcd_bench.hashing import digest, text_digest
from opcd_bench.models.loaded import LoadedModel, PromptFormat

TEXTS, TOKENS = 64, 256
"""How many texts of the test split are read, its first ones, and how many tokens of each."""

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


def measure(loaded: LoadedModel, name: str, data_dir: str | None) -> Score:
    """The loss in nats a token, averaged over the tokens of each text, without chat template."""
    read = _read(loaded, name, data_dir)
    values = [
        -float(logps_TV[range(len(one.after)), list(one.after)].mean())
        for one, logps_TV in zip(read, logps(loaded, read), strict=True)
    ]
    return Score(
        task=name,
        split=NATS,
        primary="loss",
        metrics={"loss": sum(values) / len(values)},
        n=len(values),
        n_unscored=0,
        protocol_hash=_hash(name, read),
        samples=tuple(
            {
                "task": name,
                "split": NATS,
                "example_id": one.id,
                "sample": 0,
                "score": value,
                "outcome": "measured",
            }
            for one, value in zip(read, values, strict=True)
        ),
    )


def protocol(loaded: PromptFormat, name: str, data_dir: str | None) -> Protocol:
    """What `measure` would measure under now."""
    return Protocol(_hash(name, _read(loaded, name, data_dir)))


def _read(loaded: PromptFormat, name: str, data_dir: str | None) -> list[Continuation]:
    """The texts of a measure as the model reads them."""
    start = loaded.tokenizer.bos_token_id
    before = (loaded.eos_ids[0] if start is None else int(start),)
    most = min(TOKENS, loaded.max_length - 1)
    read = []
    for text in texts(name, data_dir):
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"][:most]
        read.append(Continuation(text_digest(text), before, tuple(int(i) for i in ids)))
    return read


def _hash(name: str, read: Sequence[Continuation]) -> str:
    return digest({"measure": name, "ids": [[one.before, one.after] for one in read]})


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
