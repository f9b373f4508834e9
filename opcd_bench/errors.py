"""Every error that a user can cause, so that the command line can tell it from a bug of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from opcd_bench.printable import printable


class UserError(Exception):
    """Something the user can put right: printed as one message without a traceback, exit code 2.

    The message says what was wrong, where (file and key), what is allowed, and what to type. As it
    reads, it holds no credentials and no control codes, whatever it was made of.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(UserError):
    """A suite, command-line word or settings file that cannot be run; names all bad fields."""


class UnknownName(UserError):
    """A method, task, suite or key that does not exist; carries the nearest names.

    ``where`` says of what, behind the name: ``of method 'opcd'``.
    """

    def __init__(
        self, kind: str, name: str, known: Iterable[str], hint: str = "", *, where: str = ""
    ) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
        listing = f" Known: {', '.join(names)}." if names and not (near and len(names) > 40) else ""
        said = " ".join(filter(None, [f"unknown {kind} {name!r}", where]))
        super().__init__(f"{said}.{guess}{listing}{' ' + hint if hint else ''}")
        self.kind, self.name, self.near = kind, name, near


class InvalidLoss(UserError):
    """A combination of loss coordinates that is broken by construction: `losses.rules` says why."""


class PluginError(UserError):
    """A method or task file that does not import or does not keep its contract; names the file."""


class ModelError(UserError):
    """A model folder, tokenizer or teacher that cannot be used, and why."""


class StoreError(UserError):
    """A run directory that is dirty, foreign, sealed, corrupt or unwritable."""


class FolderBusy(StoreError):
    """A folder that another process is writing now; the message names that process."""


class LeaseLost(StoreError):
    """Another process has taken over a folder that this one was writing: nothing more is written.

    Not recorded in the folder, which is the other's now.
    """


class DataError(UserError):
    """Missing or malformed data: an absent file, overlapping splits, an over-long example."""


class DataWarning(UserWarning):
    """Data that can be used, but hold what somebody should look at; names files and lines."""


class MissingData(DataError):
    """A data set that is in no folder and cannot be had from the Hub; says how to get it."""


class MissingPackage(UserError):
    """An optional package or resource that is not installed; says what to type."""

    def __init__(self, what: str, install: str, why: str = "") -> None:
        reason = f" ({why})" if why else ""
        super().__init__(f"{what} is not installed{reason}. Type: {install}")


class WorkerDied(UserError):
    """A process that ran cells was killed from outside; what it had stored is resumable."""


class EngineDied(UserError):
    """A vLLM engine or server that stopped answering; the run is resumable."""


class PeerLost(EngineDied):
    """Another process of the same cell has ended; whoever started them says why."""


class CellFailed(Exception):
    """A cell stopped for a reason that the record must keep; the grid goes on without it."""

    def __str__(self) -> str:
        return printable(super().__str__())


class Diverged(CellFailed):
    """Weights or gradients that are not finite: a result of the learning rate, and final.

    Another attempt would end alike, so a choice between learning rates does not wait for one.
    """


LEAVE_OUT = "lower the learning rate, or leave this one out of --learning-rate"
"""What to type where weights have diverged."""


class NonFiniteGradients(Diverged):
    """Five optimiser steps in a row had a NaN or infinite gradient, or all of a run's."""
