"""A comparison made by hand: frames as the report's functions would give them."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.text import Text

from opcd_bench.report.analysis import curves, factorial, forgetting, frontier, pairwise
from opcd_bench.report.analysis import discrimination as apart
from opcd_bench.report.analysis import groups as grouped
from opcd_bench.report.analysis.comparison import Comparison
from opcd_bench.report.analysis.statistics import Interval

TASK = "toy"
NAMES = ("opcd", "forward_kl", "sft_context")
KEPT = ("keep", "obey")
SAYING = {"seeds": (0, 1), "rates": (1e-3,), "n": 40, "note": ""}


def interval(value, half=0.02, n=40):
    """An interval around a value; none where ``half`` is NaN."""
    return Interval(value, value - half, value + half, n)


def empty():
    """A comparison of nothing, with every column."""
    return Comparison(
        frontier=pd.DataFrame(columns=frontier.POINTS),
        areas=pd.DataFrame(columns=frontier.AREAS),
        area_differences=pd.DataFrame(columns=frontier.DIFFERENCES),
        forgetting=pd.DataFrame(columns=forgetting.POINTS),
        by_step=pd.DataFrame(columns=forgetting.BY_STEP),
        curves=pd.DataFrame(columns=curves.CURVES),
        effects=pd.DataFrame(columns=factorial.EFFECTS),
        matrix=pd.DataFrame(columns=pairwise.MATRIX),
        instructions=pd.DataFrame(columns=pairwise.INSTRUCTIONS),
    )


def comparison(names=NAMES, kept=KEPT, task=TASK, metrics=("dev_accuracy", "divergence", "leak")):
    """Every frame filled: two rates, three evaluated steps, two seeds; values by place."""
    rank = {name: i for i, name in enumerate(sorted(names))}
    sweep, areas, pairs, points, steps, logged = [], [], [], [], [], []
    for name in sorted(names):
        method = {"task": task, "method": name}
        for measured in kept:
            head = {**method, "measured": measured}
            for rate in (1e-3, 3e-3):
                for step in (0, 10, 20):
                    gain = 0.0 if step == 0 else 0.2 * rank[name] / len(names) + step / 40
                    change = -step * rate * (1 + rank[name])
                    sweep.append(
                        {**head, "learning_rate": rate, "step": step, "seeds": (0, 1),
                         "gain": interval(gain), "change": interval(change, n=30),
                         "pareto": False, "chosen": rate == 1e-3 and step == 20}
                    )  # fmt: skip
            areas.append({**head, "area": interval(0.8), "bias": 0.01, **SAYING})
            for seed in (None, 0, 1):
                off = 0.0 if seed is None else 0.02 * (2 * seed - 1)
                points.append(
                    {**head, "learning_rate": 1e-3, "seed": seed,
                     "gain": interval(0.5 + 0.1 * rank[name] + off),
                     "gap_closed": interval(0.9), "change": interval(-0.05 * rank[name] + off),
                     "pareto": seed is None and rank[name] == 0}
                )  # fmt: skip
            for seed in (0, 1):
                for step in (0, 10, 20):
                    change = -0.01 * step * (1 + rank[name]) / 2 - 0.004 * seed * step / 10
                    steps.append(
                        {**head, "learning_rate": 1e-3, "seed": seed, "step": step,
                         "value": 0.8 + change, "change": change, "interval": interval(change)}
                    )  # fmt: skip
        for metric in metrics:
            kind = f"{name}_kind" if metric == "divergence" else None
            for rate in (1e-3, 3e-3):
                for seed in (0, 1):
                    for step in range(1, 11):
                        logged.append(
                            {**method, "learning_rate": rate, "seed": seed,
                             "headline": rate == 1e-3, "step": step, "averaged_steps": 1,
                             "tokens": 100.0 * step + seed,
                             "metric": metric, "value": (0.5 + seed) / step, "kind": kind}
                        )  # fmt: skip
    for i, a in enumerate(sorted(names)):
        for b in sorted(names)[i + 1 :]:
            for measured in ("test", *kept):
                pairs.append(
                    {"task": task, "measured": measured, "method": a, "other": b,
                     "difference": interval(0.1 * (rank[a] - rank[b])), "p": 0.01,
                     "p_holm": 0.03 if rank[b] - rank[a] > 1 else 0.5, "n": 40, "seeds": (0, 1)}
                )  # fmt: skip
    base = empty()
    return Comparison(
        frontier=_frame(sweep, base.frontier),
        areas=_frame(areas, base.areas),
        area_differences=_frame(
            [{**pair, **SAYING, "bias": 0.0} for pair in pairs if pair["measured"] != "test"],
            base.area_differences,
        ),
        forgetting=_frame(points, base.forgetting).astype({"seed": object}),
        by_step=_frame(steps, base.by_step),
        curves=_frame(logged, base.curves),
        effects=_frame(_effects(task, kept, sorted(names)), base.effects),
        matrix=_frame(pairs, base.matrix),
        instructions=_frame(_instructions(task, kept, names), base.instructions),
        **separated(sorted(names), kept, task),
    )


def measured(kept):
    """(measured, kind, unit, better) of gain, efficiency and retention."""
    return [
        ("test", "gain", "share", "higher"), ("efficiency", "efficiency", "share", "higher"),
        *((name, "retention", "share", "higher") for name in kept),
    ]  # fmt: skip


def separated(
    names, kept=KEPT, task=TASK, *, beats=None, values=None, mde=0.03, controls=(), seeds=(0, 1)
):
    """Fields groups, pairs and discrimination: ``beats``: measure -> pairs (winner, loser).

    By default the last method by name beats all others in gain, and nobody anybody else.
    ``values``: measure -> method -> value, by default falling from the last name on.
    """
    others = [name for name in names if name not in controls]
    beats = {"test": [(others[-1], name) for name in others[:-1]]} if beats is None else beats
    groups, pairs, summary = [], [], []
    for name, kind, unit, better in measured(kept):
        keys = {"task": task, "measured": name, "kind": kind, "unit": unit, "better": better}
        of = (values or {}).get(name) or {m: 0.1 * (i + 1) for i, m in enumerate(names)}
        ranked = sorted(others, key=lambda method: -of[method])
        won = set(beats.get(name, ()))
        for method in [*ranked, *controls]:
            beaten = any((ranked[0], method) == pair for pair in won)
            groups.append(
                {**keys, "method": method, "control": method in controls, "learning_rate": 1e-3,
                 "seeds": seeds, "value": interval(of[method]),
                 "rank": 0 if method in controls else ranked.index(method) + 1,
                 "letters": "" if method in controls else "b" if beaten else "a",
                 "best": method not in controls and not beaten}
            )  # fmt: skip
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                winner = a if (a, b) in won else b if (b, a) in won else ""
                pairs.append(
                    {**keys, "method": a, "other": b, "control": bool({a, b} & set(controls)),
                     "difference": interval(of[a] - of[b]), "p": 0.01, "p_holm": 0.02,
                     "separated": bool(winner), "winner": winner, "mde": 0.01,
                     "mde_corrected": mde, "margin": 0.02, "p_equivalent": 0.5,
                     "p_equivalent_holm": 1.0, "equivalent": False, "n": 40, "seeds": seeds}
                )  # fmt: skip
        count = len(others) * (len(others) - 1) // 2
        summary.append(
            {**keys, "methods": len(others), "pairs": count, "separated": len(won),
             "equivalent": 0, "undecided": count - len(won), "between": 0.1, "within": 0.1,
             "ratio": 1.0, "mde": 0.01, "mde_corrected": mde, "margin": 0.02, "seeds": len(seeds),
             "single": 0 if len(seeds) > 1 else count}
        )  # fmt: skip
    return {
        "groups": pd.DataFrame(groups, columns=grouped.GROUPS),
        "pairs": pd.DataFrame(pairs, columns=apart.PAIRS),
        "discrimination": pd.DataFrame(summary, columns=apart.SUMMARY),
    }


def _effects(task, kept, names):
    rows = (
        ("writer", "student - teacher", tuple(names[:2]), 0.04, "mind the gap"),
        ("direction", "reverse_kl - forward_kl", tuple(names), -0.02, ""),
        ("writer x direction", "(a - b) under c - (a - b) under d", tuple(names), math.nan, ""),
    )
    return [
        {"task": task, "measured": measured, "factor": factor, "levels": levels,
         "effect": interval(value), "methods": methods, "learning_rates": (1e-3,) * len(methods),
         "seeds": (0, 1), "note": note}
        for measured in ("test", *kept)
        for factor, levels, methods, value, note in rows
    ]  # fmt: skip


def _instructions(task, kept, names):
    kinds = {"keywords:existence": -0.3, "punctuation:no_comma": 0.1, "startend:quotation": 0.0}
    return [
        {"task": task, "measured": kept[0], "method": name, "instruction": kind, "before": 0.75,
         "after": 0.75 + change, "change": interval(change), "n": 12, "seeds": (0, 1)}
        for name in names
        for kind, change in kinds.items()
    ]  # fmt: skip


def _frame(rows, like):
    return pd.DataFrame(rows, columns=list(like.columns))


def assert_no_word_is_cut_off(figure, monkeypatch):
    """Every text that is drawn lies inside the figure, to a pixel."""
    figure.draw_without_rendering()  # lays it out
    written = []
    draw = Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, *to: (written.append(text), draw(text, *to)))
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    assert len([text for text in written if text.get_text()]) > 5
    for text in written:
        box = text.get_window_extent()
        inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
        assert inside or not text.get_text(), (text.get_text(), box.bounds, (width, height))
