"""Results of a report made by hand, as `report.load` would give them, without a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from opcd_bench.report.analysis.load import StoredResults

CELL = ["task", "method", "learning_rate", "seed"]
COLUMNS = {
    "cells": [*CELL, "run", "state", "reason", "settings", "chosen_step", "description"],
    "evals": [*CELL, "run", "step", "measured", "split", "metric", "value", "primary", "n",
              "n_unscored", "protocol_hash", "final"],
    "samples": [*CELL, "measured", "split", "example_id", "sample", "score", "outcome",
                "score_without_loops"],
    "anchors": ["reading", "measured", "split", "example_id", "sample", "score", "outcome",
                "score_without_loops"],
    "trains": [*CELL, "run", "step", "student_tokens_trained", "eos_rate", "divergence",
               "divergence_kind"],
    "steps": [*CELL, "run", "step", "measured", "split", "scores"],
    "instructions": [*CELL, "measured", "example_id", "instruction", "followed"],
    "external": [],
}  # fmt: skip


def describe(writer="student", direction="reverse_kl", **loss):
    """A method's description, as its config stores it."""
    own = {"reverse_kl": "student_top_k", "forward_kl": "teacher_top_k"}
    values = {"id": "x", "direction": direction, "support": own.get(direction, "full"), "k": 256,
              "outside": "drop", "gradient": "through", "estimator": "exact", "beta": None,
              "alpha": None, "clip": None, "baseline": 0.0, "importance_weight": False,
              "missing_ids": "refuse"}  # fmt: skip
    teacher = {"weights": "initial", "reads": "context", "rate": None, "rows": "aligned"}
    return {
        "writer": {"kind": writer, "teacher_share": float(writer == "teacher"), "path": None},
        "loss": {**values, **loss},
        "teacher": teacher,
    }


def items(prefix, scores):
    """Rows of samples, one an example; ids follow the order, NaN is a failed one."""
    return [
        {"example_id": f"{prefix}{i:04d}", "sample": 0, "score": None if np.isnan(score) else score,
         "outcome": "failed" if np.isnan(score) else "correct" if score == 1 else "wrong",
         "score_without_loops": None if np.isnan(score) else score}
        for i, score in enumerate(np.asarray(scores, dtype=float))
    ]  # fmt: skip


class Suite:
    """Cells and anchors of one task, gathered into frames by ``results()``."""

    def __init__(self, task="toy", **suite):
        self.task, self.suite = task, suite
        self.rows = {name: [] for name in COLUMNS}

    def anchor(self, reading, measured, scores):
        split = "test" if measured == self.task else "retention"
        head = {"reading": reading, "measured": measured, "split": split}
        self.rows["anchors"] += [{**head, **row} for row in items(measured, scores)]
        return self

    def cell(
        self,
        method,
        rate=1e-3,
        seed=0,
        *,
        test=(),
        kept=None,
        dev=None,
        along=None,
        chosen=10,
        state="done",
        description=None,
        protocol="p",
        **train,
    ):
        """One run.

        ``test``: scores; ``kept``: retention task -> scores; ``dev``: step -> scores;
        ``along``: retention task -> step -> scores; ``train``: metric -> values.
        """
        cell = {"task": self.task, "method": method, "learning_rate": rate, "seed": seed}
        run = f"{self.task}--{method}--{rate:g}--{seed}"
        head = {**cell, "run": run}
        self.rows["cells"].append(
            {**head, "state": state, "reason": "", "settings": {"suite.max_steps": 20},
             "chosen_step": chosen if state == "done" else None,
             "description": description or describe()}
        )  # fmt: skip
        if state == "done":
            for measured, scores in {self.task: test, **(kept or {})}.items():
                split = "test" if measured == self.task else "retention"
                self.rows["samples"] += [
                    {**cell, "measured": measured, "split": split, **row}
                    for row in items(measured, scores)
                ]
        dev = {chosen: [0.5]} if dev is None else dev
        for measured, steps in {self.task: dev, **(along or {})}.items():
            split = "dev" if measured == self.task else "retention"
            for step, scores in steps.items():
                scores = np.asarray(scores, dtype=float)
                at = {**head, "step": step, "measured": measured, "split": split}
                self.rows["steps"].append({**at, "scores": scores})
                self.rows["evals"].append(
                    {**at, "metric": "accuracy", "value": float(np.nanmean(scores)),
                     "primary": True, "n": len(scores), "n_unscored": int(np.isnan(scores).sum()),
                     "protocol_hash": protocol, "final": False}
                )  # fmt: skip
        steps = max((len(values) for values in train.values()), default=0)
        self.rows["trains"] += [
            {**head, "step": i + 1, **{key: values[i] for key, values in train.items()}}
            for i in range(steps)
        ]
        return self

    def instructions(self, method, followed, *, rate=1e-3, seed=0, measured="keep"):
        """``followed``: instruction type -> prompt -> whether; ``method`` None is the base."""
        cell = {"task": self.task, "method": method, "learning_rate": rate, "seed": seed}
        if method is None:
            cell = dict.fromkeys(CELL)
        self.rows["instructions"] += [
            {**cell, "measured": measured, "example_id": prompt, "instruction": kind, "followed": v}
            for kind, prompts in followed.items()
            for prompt, v in prompts.items()
        ]
        return self

    def results(self):
        frames = {
            name: pd.DataFrame(rows) if rows else pd.DataFrame(columns=COLUMNS[name])
            for name, rows in self.rows.items()
        }
        return StoredResults(root=Path("hand-made"), suite=self.suite, **frames)
