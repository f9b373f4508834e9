"""Seconds by phase: what the time since the last look went into."""

from __future__ import annotations

import time

import torch


class Stopwatch:
    """Adds the time since its last look to the phase that ended. Phases never overlap.

    On a GPU, work is only begun when Python goes on: each look waits until it is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self.start()

    def start(self) -> None:
        """Forget what was measured, and measure from now."""
        self.seconds: dict[str, float] = {}
        self._last = self._now()

    def lap(self, phase: str) -> None:
        """The phase that ends here took the time since the last look."""
        now = self._now()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        return time.perf_counter()
