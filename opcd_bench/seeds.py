"""Every random number's origin: seeds are hashes of names, and the method is not one of them."""

from __future__ import annotations

import hashlib
import random


def seed_of(*names: str | int) -> int:
    """A 63-bit seed from names, the same on every machine; order and type of names matter.

    Leave the method's name out: then every method of a suite meets the same prompts in the same
    order with the same sampling noise, and differences between methods are paired.
    """
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: str | int) -> random.Random:
    """Python's generator, seeded by names."""
    return random.Random(seed_of(*names))
