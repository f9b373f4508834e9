"""lm-eval's IFEval checkers without a download: imports them offline, says what they lack.

Their import asks NLTK for its ``punkt_tab`` data and downloads it where it is absent. Two of the 25
instruction types need it (sentences and capital words are counted with it); the others do not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from opcd_bench.errors import MissingPackage

NEED_PUNKT = frozenset(
    {"length_constraints:number_sentences", "change_case:capital_word_frequency"}
)
"""Instruction types that are graded with NLTK's punkt_tab."""

GET_PUNKT = "python -c \"import nltk; nltk.download('punkt_tab')\""
OR_FOLDER = (
    "(without the internet: unpack punkt_tab.zip of github.com/nltk/nltk_data into "
    "<data_dir>/nltk_data/tokenizers and give --data-dir)"
)


@contextlib.contextmanager
def no_downloads() -> Iterator[None]:
    """While inside, ``nltk.download`` does nothing: an import of IFEval opens no socket."""
    import nltk

    kept = nltk.download

    def refuse(*args: Any, **kwargs: Any) -> bool:
        return False

    nltk.download = refuse
    try:
        # lm-eval prints that it downloaded, whether or not it did.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        nltk.download = kept


def require_packages() -> None:
    """Raise MissingPackage for what IFEval's checkers import; none of it is imported."""
    for package in ("lm_eval", "nltk", "langdetect", "immutabledict"):
        if importlib.util.find_spec(package) is None:
            name = package.replace("_", "-")
            raise MissingPackage(name, f"pip install {name}", "IFEval's checkers import it")


def checkers() -> ModuleType:
    """lm-eval's ``tasks/ifeval/utils.py``; raises MissingPackage where it cannot be imported."""
    require_packages()
    with no_downloads():
        from lm_eval.tasks.ifeval import utils

        assert isinstance(utils, ModuleType)
        return utils


def has_punkt() -> bool:
    """Whether NLTK finds its punkt_tab data on this machine."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english/")
    except LookupError:
        return False
    return True


def require_punkt(task: str, instruction_ids: Iterable[str]) -> None:
    """Raise MissingPackage if any of the instruction types needs punkt_tab and it is not there."""
    need = sorted(NEED_PUNKT.intersection(instruction_ids))
    if need and not has_punkt():
        raise MissingPackage(
            "NLTK's punkt_tab data",
            f"{GET_PUNKT} {OR_FOLDER}",
            f"{task} asks for {' and '.join(need)}, which lm-eval grades with it",
        )
