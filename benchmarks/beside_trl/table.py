"""What was measured as text: medians and their spread, ratios, phases, memory, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beside_trl.machine import MOST_BY_OTHERS
from beside_trl.workloads import PHASES, Workload

SIDES = {"ours": "ours", "trl": "TRL"}
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
_WEIGHT_COPIES = 5
"""Weights, gradients, two moments and the teacher, float32."""


@dataclass(frozen=True)
class Measured:
    """A workload's rounds: the steps that each side sent, and what other processes took."""

    workload: Workload
    steps: Mapping[str, Sequence[Mapping[str, Any]]]
    first: Mapping[str, Mapping[str, float]]
    product_peak: Mapping[str, float]
    others: Sequence[float]
    load: Sequence[float]

    def whole(self, name: str) -> list[float]:
        """A side's seconds a step."""
        return [step["whole"] for step in self.steps[name]]

    @property
    def ratio(self) -> float:
        """TRL's median over ours."""
        return statistics.median(self.whole("trl")) / statistics.median(self.whole("ours"))

    @property
    def ratios(self) -> list[float]:
        """TRL's time over ours, round by round."""
        return [b / a for a, b in zip(self.whole("ours"), self.whole("trl"), strict=True)]

    def phase(self, name: str, phase: str) -> float:
        """A side's median seconds in a phase."""
        return statistics.median(step["seconds"].get(phase, 0.0) for step in self.steps[name])

    def share(self, name: str, phase: str) -> float | None:
        """The products that a phase needs, over what the peak would do in its time."""
        sdft = name == "trl" and self.workload.told
        needed = self.workload.needed("teacher" if sdft else "student").get(phase)
        seconds = self.phase(name, phase)
        return needed / (self._peak * seconds) if needed and seconds else None

    @property
    def at_peak(self) -> float:
        """What the ratio would be, took our step no longer than its products do at the peak."""
        return self.ratio / self.whole_share

    @property
    def whole_share(self) -> float:
        """The products that our whole step needs, over what the peak would do in its time."""
        needed = sum(self.workload.needed("student").values())
        return needed / (self._peak * statistics.median(self.whole("ours")))

    @property
    def _peak(self) -> float:
        return self.product_peak["bfloat16" if self.workload.bf16 else "float32"]

    def beyond(self, name: str, phase: str) -> float | None:
        """Positions that passed the layers in vain, over all that did; None: not seen to pass."""
        computed = self.steps[name][-1]["positions"].get(phase)
        return max(0.0, 1 - self.workload.positions()[phase] / computed) if computed else None

    def memory(self, name: str) -> tuple[float, float]:
        """GiB at the peak, and what of it is neither libraries, weights, gradients nor moments."""
        found = self.steps[name][-1]["memory"]
        held = found["libraries"] + _WEIGHT_COPIES * 4 * self.workload.shape.parameters
        return found["peak"] / 2**30, (found["peak"] - held) / 2**30

    @property
    def alone(self) -> bool:
        """Whether no other process took more than a little."""
        return max(self.others) <= MOST_BY_OTHERS


def spread(values: Sequence[float]) -> str:
    """Median, least and most: ``3.50 (3.41 to 3.62)``."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def alone(measured: Sequence[Measured]) -> str:
    """The line that says whether figures may be shown."""
    most = max(max(one.others) for one in measured)
    load = max(max(one.load) for one in measured)
    said = f"other processes used {most:.0%} of the CPU"
    if all(one.alone for one in measured):
        return f"Alone on the machine: {said} at most (load average before a round: {load:.2f})."
    return f"**Not alone: {said}: these figures are not to be published.**"


def markdown(measured: Sequence[Measured], header: Sequence[str]) -> str:
    """Header lines, then a table of ratios and one of phases."""
    lines = [*header, alone(measured), "", *_ratios(measured), "", *_phases(measured)]
    return "\n".join(lines) + "\n"


def _ratios(measured: Sequence[Measured]) -> list[str]:
    rows = [
        "| workload | ours, s | TRL, s | ratio | by round | target | "
        "our share of the product peak | ratio at the peak | "
        "peak GiB, ours / TRL | beyond what is held, ours / TRL |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in measured:
        ours, trl = one.memory("ours"), one.memory("trl")
        by_round = f"{min(one.ratios):.2f} to {max(one.ratios):.2f}"
        rows.append(
            f"| `{one.workload.name}` | {spread(one.whole('ours'))} | {spread(one.whole('trl'))} | "
            f"{one.ratio:.2f} | {by_round} | {one.workload.target:g} | "
            f"{one.whole_share:.0%} | {one.at_peak:.2f} | "
            f"{ours[0]:.2f} / {trl[0]:.2f} | {ours[1]:.2f} / {trl[1]:.2f} |"
        )
    return rows


def _phases(measured: Sequence[Measured]) -> list[str]:
    rows = [
        f"| workload | side | {' | '.join(f'{phase}, s' for phase in PHASES)} | "
        "share of the product peak | computed in vain |",
        "|---|---|" + "---|" * (len(PHASES) + 2),
    ]
    for one in measured:
        for name, said in SIDES.items():
            seconds = " | ".join(f"{one.phase(name, phase):.2f}" for phase in PHASES)
            peaks = _by_phase({phase: one.share(name, phase) for phase in PHASES[:3]})
            vain = _by_phase({phase: one.beyond(name, phase) for phase in PHASES[:3]})
            rows.append(f"| `{one.workload.name}` | {said} | {seconds} | {peaks} | {vain} |")
    return rows


def _by_phase(shares: Mapping[str, float | None]) -> str:
    """``sampling 9 %, teacher 60 %``; a dash where nothing was seen."""
    words = {phase: "–" if x is None else f"{100 * x:.0f} %" for phase, x in shares.items()}
    return ", ".join(f"{phase} {word}" for phase, word in words.items())


def put(text: str, table: str) -> str:
    """``text`` with the table between its two marks; the table alone where it has none."""
    if BEGIN not in text or END not in text:
        return table
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table}\n{END}{rest.partition(END)[2]}"
