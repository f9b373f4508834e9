"""What must hold around a call of lm-eval: no noise, no moved random state, no network for NLTK."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextlib.contextmanager
def untouched(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Put back every random state and every module's mode; HFLM's sampling starts at ``seed``.

    langdetect draws at random too: its factory is seeded, so that a reply has one grade.
    """
    import random

    import langdetect
    import numpy
    import torch

    training = [module for module in model.modules() if module.training]
    python, array = random.getstate(), numpy.random.get_state()
    factory = langdetect.DetectorFactory
    detector = factory.seed
    devices = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            random.seed(seed)
            factory.seed = 0
            yield
    finally:
        factory.seed = detector
        random.setstate(python)
        numpy.random.set_state(array)
        for module in model.modules():
            module.training = False
        for module in training:
            module.training = True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hush lm-eval's logger and bars, and spare the three seconds of its report on the machine."""
    from lm_eval import evaluator

    def nothing(storage: dict[str, Any] | None = None) -> None:
        return None

    logger = logging.getLogger("lm_eval")
    level = logger.level
    machine, commit = evaluator.add_env_info, evaluator.get_git_commit_hash
    logger.setLevel(logging.ERROR)
    # The second would let git complain on the terminal where the working folder is no repository.
    evaluator.add_env_info = evaluator.get_git_commit_hash = nothing
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        evaluator.add_env_info, evaluator.get_git_commit_hash = machine, commit
        logger.setLevel(level)


@contextlib.contextmanager
def nltk_data(data_dir: Path | None) -> Iterator[None]:
    """Let NLTK also look in ``<data_dir>/nltk_data``."""
    folder = None if data_dir is None else data_dir / "nltk_data"
    if folder is None or not folder.is_dir():
        yield
        return
    import nltk

    nltk.data.path.append(str(folder))
    try:
        yield
    finally:
        nltk.data.path.remove(str(folder))
