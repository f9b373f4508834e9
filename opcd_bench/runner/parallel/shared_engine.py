"""An engine whose replies all processes write, each its share; what it asks of a model is HF's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opcd_bench.models.loaded import PromptFormat
from opcd_bench.rollout.engine import Reply, Request, Sampling, check_requests
from opcd_bench.rollout.hf import HFEngine


class SharedEngine:
    """Replies to requests by ``write``, once they are known to be ones that ``reader`` can read."""

    protocol_name = HFEngine.protocol_name

    def __init__(
        self, reader: PromptFormat, write: Callable[[Sequence[Request], Sampling], list[Reply]]
    ) -> None:
        self.reader, self._write = reader, write

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        """One reply a request, in order; raises as HFEngine does."""
        check_requests(requests, sampling, self.reader.name, self.reader.max_length)
        return self._write(requests, sampling) if requests else []
