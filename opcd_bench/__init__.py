"""The public face: all that a script, a method's file or a task's file needs, loaded when used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opcd_bench.api import Results, load_results, run
    from opcd_bench.config.suite import Suite
    from opcd_bench.distillation.losses.divergence import Divergence, named
    from opcd_bench.distillation.losses.functional import TokenLoss, token_loss
    from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
    from opcd_bench.distillation.losses.scheduled import Taid
    from opcd_bench.distillation.method import (
        STUDENT,
        TOLD_TEACHER,
        Method,
        Stage,
        Teacher,
        Writer,
        mixture,
        stored,
    )
    from opcd_bench.envs.question import (
        DataTask,
        QuestionEpisode,
        majority_floor,
        tagged_answer,
    )
    from opcd_bench.envs.task import (
        SPLITS,
        BestPossible,
        Context,
        Contexts,
        Episode,
        Example,
        Floor,
        Grade,
        Message,
        Probe,
        Split,
        Task,
        Turn,
    )
    from opcd_bench.errors import DataError, MissingData, UserError
    from opcd_bench.seeds import generator, seed_of
    from opcd_bench.version import __version__

__all__ = [
    "SPLITS",
    "STUDENT",
    "TOLD_TEACHER",
    "BestPossible",
    "Context",
    "Contexts",
    "DataError",
    "DataTask",
    "Divergence",
    "Episode",
    "Example",
    "Floor",
    "Grade",
    "Message",
    "Method",
    "MissingData",
    "PolicyGradient",
    "Probe",
    "QuestionEpisode",
    "Results",
    "Split",
    "Stage",
    "Suite",
    "Taid",
    "Task",
    "Teacher",
    "TokenLoss",
    "Turn",
    "UserError",
    "Writer",
    "__version__",
    "generator",
    "load_results",
    "majority_floor",
    "mixture",
    "named",
    "run",
    "seed_of",
    "stored",
    "tagged_answer",
    "token_loss",
]

_HOMES = {
    "api": "Results load_results run",
    "config.suite": "Suite",
    "distillation.losses.divergence": "Divergence named",
    "distillation.losses.functional": "TokenLoss token_loss",
    "distillation.losses.policy_gradient": "PolicyGradient",
    "distillation.losses.scheduled": "Taid",
    "distillation.method": "STUDENT TOLD_TEACHER Method Stage Teacher Writer mixture stored",
    "envs.question": "DataTask QuestionEpisode majority_floor tagged_answer",
    "envs.task": (
        "SPLITS BestPossible Context Contexts Episode Example Floor Grade Message Probe Split Task "
        "Turn"
    ),
    "errors": "DataError MissingData UserError",
    "seeds": "generator seed_of",
    "version": "__version__",
}
"""Module -> the names that are loaded from it when they are first used; two of them load torch."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """A name of the face, from its module; AttributeError says which one is near."""
    if name not in _HOME_OF:
        import difflib

        near = difflib.get_close_matches(name, _HOME_OF, n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"opcd_bench has no {name!r}{guess}")
    value = getattr(import_module(f"opcd_bench.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the next use finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
