"""Live trackers beside the files: TensorBoard or Weights & Biases, off by default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from opcd_bench.errors import MissingPackage
from opcd_bench.hashing import text_digest

_INSTALL = "pip install 'opcd-bench[trackers]'"


class Tracker(Protocol):
    """Anything that takes a row of numbers at a step."""

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Record the numeric entries of ``row``."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


class NoTracker:
    """Records nothing: the files of the run directory are the truth anyway."""

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise MissingPackage("tensorboard", _INSTALL, "report_to") from None
        self.writer: Any = SummaryWriter(str(folder))

    def log(self, row: Mapping[str, Any], step: int) -> None:
        for key, value in numbers(row).items():
            self.writer.add_scalar(key, value, step)

    def close(self) -> None:
        self.writer.close()


class _Wandb:
    """A run of wandb's, the same one for a cell that is resumed."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingPackage("wandb", _INSTALL, "report_to") from None
        folder.mkdir(parents=True, exist_ok=True)
        self.run: Any = wandb.init(
            project="opcd-bench",
            name=name,
            id=text_digest(name, 16),
            resume="allow",
            config=dict(config),
            dir=str(folder),
            mode=_mode(wandb),
            reinit="finish_previous",
        )

    def log(self, row: Mapping[str, Any], step: int) -> None:
        self.run.log(numbers(row), step=step)

    def close(self) -> None:
        self.run.finish()


def _mode(wandb: Any) -> Literal["offline"] | None:
    """Offline where nobody is logged in: a run never asks for a login (`wandb sync` sends later).

    None leaves the choice to wandb's own settings.
    """
    if os.environ.get("WANDB_MODE") or wandb.login(prompt=False):
        return None
    return "offline"


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The numeric entries of a row."""
    return {
        key: float(value)
        for key, value in row.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and key != "step"
    }


def tracker(report_to: str, folder: Path, name: str, config: Mapping[str, Any]) -> Tracker:
    """The tracker that a suite asks for; MissingPackage says what to install."""
    if report_to == "tensorboard":
        return _TensorBoard(folder)
    if report_to == "wandb":
        return _Wandb(folder, name, config)
    return NoTracker()
