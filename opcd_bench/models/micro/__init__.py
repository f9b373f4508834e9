"""The built-in model in its sizes: tokenizer, weights, world and pre-training recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FOLDERS: Mapping[str, str] = {"micro-small": "small", "micro": "large"}
"""The names of the built-in model's sizes, and the folder here that holds each."""


def path(name: str = "micro-small") -> Path:
    """The folder of a size's weights, tokenizer and card (loads with ``from_pretrained``)."""
    return Path(__file__).parent / FOLDERS[name]
