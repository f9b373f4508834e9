"""Retention measures that are no tasks: their names in a suite, and the unit that they have."""

from __future__ import annotations

DRIFT = "drift"
"""Mean token KL from the base model, on its own responses to the other retention tasks."""

HELD_OUT = {"loss_gsm8k": "gsm8k", "loss_wikitext": "wikitext"}
"""Mean token loss on texts: the measure's name -> the data set that they come from."""

NATS = "nats"
"""The split under which they are stored: apart from accuracies, with which they share no unit."""


_SETS = {"gsm8k": "GSM8K", "wikitext": "WikiText"}


def title(name: str) -> str:
    """What a retention task or measure is called in a sentence or a heading."""
    return f"held-out loss on {_SETS[HELD_OUT[name]]}" if name in HELD_OUT else name


def is_measure(name: str) -> bool:
    """Whether a retention name is one of these, and so no task's."""
    return name == DRIFT or name in HELD_OUT


def names() -> tuple[str, ...]:
    """All of them."""
    return (DRIFT, *HELD_OUT)
