"""lm-eval's IFEval checkers without a download: imports them offline, says what they lack.

Their import asks NLTK for its ``punkt_tab`` data and downloads it where it is absent. Two of the 25
instruction types need it (sentences and capital words are counted with it); the others do not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterable, Iterator, Mapping
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


def followed(instruction: str, arguments: Mapping[str, Any], reply: str) -> bool:
    """Whether a reply follows one instruction by its id, strictly, as lm-eval's checker has it.

    One reply has one verdict: langdetect, which draws at random, is seeded for it. What has no
    letter follows nothing, though the checkers let it pass where its language cannot be told.
    """
    checkers()
    import langdetect
    from lm_eval.tasks.ifeval import instructions_registry

    if not any(sign.isalpha() for sign in reply):
        return False
    checker = instructions_registry.INSTRUCTION_DICT[instruction](instruction)
    checker.build_description(**arguments)
    factory = langdetect.DetectorFactory
    kept, factory.seed = factory.seed, 0
    try:
        return bool(checker.check_following(reply))
    finally:
        factory.seed = kept


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
