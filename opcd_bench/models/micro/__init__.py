"""The built-in model: its tokenizer, weights, world and pre-training recipe."""

from __future__ import annotations

from pathlib import Path


def path() -> Path:
    """The folder of the shipped weights, tokenizer and card (loads with ``from_pretrained``)."""
    return Path(__file__).parent / "data"
