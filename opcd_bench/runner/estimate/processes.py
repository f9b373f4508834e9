"""What each of a cell's processes has in memory: a share of the weights, and some of them whole."""

from __future__ import annotations

from collections.abc import Sequence

from opcd_bench.config import measures
from opcd_bench.config.suite import Suite
from opcd_bench.runner.estimate.memory import MemoryPart, Shape, peak

GPU = 80 * 10**9
"""Bytes of the GPU that an estimate counts in, and of which a tenth is left for all else."""

TRIED = (1, 2, 4, 8, 16, 32, 64)


def of_each(
    parts: Sequence[MemoryPart],
    suite: Suite,
    student: Shape,
    larger: Shape | None,
    processes: int,
) -> list[MemoryPart]:
    """The memory of one of so many processes, from that of one alone."""
    if processes == 1:
        return list(parts)
    full = not student.adapter
    masters = any(part.name == "float32 weights" for part in parts)
    found = []
    for part in parts:
        if masters and part.name == "student":
            continue  # the shards are float32, and rounded as they are gathered
        if not part.divided:
            found.append(part)
            continue
        share = -(-part.bytes // processes)
        found.append(
            MemoryPart(part.name, share, part.when, f"{part.how}, 1/{processes} of it", True)
        )
    weight = 2 if suite.bf16 or suite.dtype == "bfloat16" else 4
    copies = 2 if measures.DRIFT in suite.retention else 1
    largest = max(shape.parameters for shape in (student, larger) if shape is not None)
    found.append(
        MemoryPart(
            "whole copy",
            copies * weight * largest,
            "writing",
            "the weights that responses are drawn from" + (", and the base's" * (copies - 1)),
        )
    )
    teacher = student if larger is None else larger
    gathered = _gathered(student) * (2 if full else 1) + _gathered(teacher)
    found.append(
        MemoryPart(
            "gathered weights",
            weight * gathered,
            "training",
            "embeddings, head and two layers of student and teacher, with the student's gradients"
            if full
            else "embeddings, head and two layers of student and teacher",
        )
    )
    return found


def _gathered(shape: Shape) -> int:
    """Parameters of a model that are whole at a time: what is no layer, and two layers."""
    width = shape.heads * shape.head_dim
    layer = 2 * width * shape.hidden + 2 * shape.kv_heads * shape.head_dim * shape.hidden
    layer += 3 * shape.hidden * shape.intermediate
    rest = max(shape.parameters - shape.layers * layer, shape.head_rows * shape.hidden)
    return rest + 2 * layer


def fewest(
    parts: Sequence[MemoryPart], suite: Suite, student: Shape, larger: Shape | None
) -> int | None:
    """The fewest processes whose memory fits a GPU of 80 GB each; None where 64 do not.

    ``parts`` are those of one process alone.
    """
    for processes in TRIED:
        found = of_each(parts, suite, student, larger, processes)
        if max(peak(found).values()) <= 0.9 * GPU:
            return processes
    return None
