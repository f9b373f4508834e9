"""A row of the table of wrong inputs: what is typed, how it exits, the words of the way out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One wrong input.

    ``typed``: the words after ``opcd-bench``. ``words``: what the message must contain. ``files``:
    what lies in the user's folder before, by path; a function makes what text cannot (a FIFO).
    """

    typed: str | tuple[str, ...]
    words: tuple[str, ...]
    files: dict[str, str | bytes | Callable[[Path], None]] | None = None
    exit: int = 2

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(self.typed.split()) if isinstance(self.typed, str) else self.typed

    @property
    def name(self) -> str:
        text = " ".join(self.arguments).encode("unicode_escape").decode()
        held = {
            path: content.__qualname__ if callable(content) else content
            for path, content in (self.files or {}).items()
        }  # a function's address differs from process to process
        told_apart = repr((self.arguments, self.words, held)).encode("utf-8", "replace")
        long = bool(self.files) or len(text) > 70
        digest = hashlib.sha256(told_apart).hexdigest()[:6] if long else ""
        return (text[:70] + (f" #{digest}" if digest else "")) or "nothing"

    def lay(self, folder: Path) -> None:
        for path, content in (self.files or {}).items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(place)
            elif isinstance(content, bytes):
                place.write_bytes(content)
            else:
                place.write_text(content, encoding="utf-8", errors="surrogatepass")
