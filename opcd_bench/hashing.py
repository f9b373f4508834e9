"""Hashes of values: one canonical JSON text, one digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any, length: int = 10) -> str:
    """First hex digits of the SHA-256 of a value's canonical JSON."""
    return text_digest(canonical(value), length)


def text_digest(text: str, length: int = 10) -> str:
    """First hex digits of the SHA-256 of a text in UTF-8."""
    return bytes_digest(text.encode(), length)


def bytes_digest(data: bytes, length: int = 64) -> str:
    """First hex digits of the SHA-256 of some bytes; all 64 of them unless told otherwise."""
    return hashlib.sha256(data).hexdigest()[:length]
