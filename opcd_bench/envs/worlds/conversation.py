"""One exchange of the world: the unit in which pre-training text is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": …}``, as chat templates read it."""


@dataclass(frozen=True)
class Conversation:
    """Messages that end with a user's turn, and the assistant's reply that is trained on.

    ``kind`` names the generator (for the log and for counting shares); only ``reply`` carries loss.
    ``begun`` is what the assistant had written already, right or wrong: ``reply`` follows it.
    """

    kind: str
    messages: tuple[Message, ...]
    reply: str
    begun: str = ""


Generator = Callable[[random.Random], Conversation]
"""Draws one conversation; all of its randomness comes from the generator that it is handed."""
