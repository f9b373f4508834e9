"""Held-out loss: mean token negative log-likelihood of texts that nothing is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from opcd_bench.config.measures import NATS
from opcd_bench.evaluation.continuations import Continuation, logps
from opcd_bench.evaluation.held_out_texts import texts
from opcd_bench.evaluation.scores import Protocol, Score
from opcd_bench.hashing import digest, text_digest
from opcd_bench.models.loaded import LoadedModel, PromptFormat

TOKENS = 256
"""How many tokens of each text are read."""


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


def protocol_of(loaded: PromptFormat, name: str, data_dir: str | None) -> Protocol:
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
