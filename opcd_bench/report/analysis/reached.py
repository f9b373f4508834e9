"""How much training it took to get somewhere: a number of steps or tokens, or more than all."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Reached:
    """Steps, or tokens, until something was reached, with the interval of it.

    Infinite where it was not reached by the end, which is at ``limit``: known is only that it takes
    more. A bound is infinite where that holds of it, NaN where there is no interval; all are NaN
    where there is nothing to reach.
    """

    value: float
    low: float
    high: float
    limit: float

    @property
    def censored(self) -> bool:
        """Whether it was not reached by the end."""
        return math.isinf(self.value)

    def text(self) -> str:
        """As tables show it: ``12.4 [10.0, 16.1]``, ``> 30 [22.5, > 30]``, ``> 30``; or a dash."""
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low) or math.isinf(self.low):
            return self._number(self.value)
        return f"{self._number(self.value)} [{self._number(self.low)}, {self._number(self.high)}]"

    def _number(self, number: float) -> str:
        if math.isinf(number):
            return f"> {self.limit:,.0f}"
        return f"{number:.1f}" if self.limit < 100 else f"{number:,.0f}"
