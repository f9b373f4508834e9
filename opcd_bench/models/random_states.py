"""The random states of Python, NumPy and torch: compared, and put back after a block."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def now() -> tuple[Any, ...]:
    """All of them as one value: equal to an earlier one unless something was drawn between."""
    name, keys, *rest = np.random.get_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    states = [state.numpy().tobytes() for state in (torch.get_rng_state(), *gpus)]
    return (random.getstate(), name, np.asarray(keys).tobytes(), *rest, *states)


@contextmanager
def kept() -> Iterator[None]:
    """Whatever the block draws or seeds, the states after it are those before it."""
    python, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
