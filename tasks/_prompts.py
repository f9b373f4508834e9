"""The texts in ``data/prompts``: contexts that ship with the tasks, written for this project."""

from __future__ import annotations

from pathlib import Path

from opcd_bench import DataError

FOLDER = Path(__file__).parent / "data" / "prompts"


def shipped(name: str) -> str:
    """The text of ``<name>.txt``; DataError where the installation lacks it."""
    file = FOLDER / f"{name}.txt"
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error}); install opcd-bench again") from None
