"""The model card: everything that is claimed of the built-in model, measured, with intervals."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcd_bench.envs.task import Context, Task, floors_and_best
from opcd_bench.errors import DataError, StoreError
from opcd_bench.models.micro import leak
from opcd_bench.report.analysis import bounds
from opcd_bench.runner import registry
from opcd_bench.seeds import seed_of
from opcd_bench.store.jsonl import read_object, read_rows

if TYPE_CHECKING:
    from opcd_bench.models.loaded import LoadedModel
    from opcd_bench.rollout.engine import Engine, Sampling
    from opcd_bench.rollout.trajectory import Trajectory

HISTORY = "history.md"
"""The file beside the recipe in which whoever watched a pre-training says what they changed."""

LIMIT = 224
"""Most tokens of a reply on the card."""

CARD_TASKS = ("rule_math", "rule_choice", "handbook_6", "frozen_lake", "sokoban", "told_other")
"""The tasks that the card measures."""

ATTEMPTS = 40
"""Attempts that are reflected on."""

CURVE: Mapping[str, str] = {
    "rules_12_length_1": "12 rules, one operator",
    "rules_12_length_4": "12 rules, four",
    "nothing_length_2": "nothing told",
    "hint_length_3": "hint",
    "answer_length_3": "answer",
    "other_hint_length_3": "another's hint",
    "choice_rules": "choice with rules",
    "choice_nothing": "choice without",
    "handbook_12": "12 facts",
}
"""Columns of the card's learning curve: skills of `quick.SKILLS`, and their headings."""

TELLS: Mapping[str, str] = {
    "hint": "its own worked solution",
    "answer": "its own answer",
    "other_hint": "another example's worked solution",
}
"""What a teacher may be told of an example beside the shared context."""


def share(right: int, n: int) -> dict[str, Any]:
    """A measured share as the card holds it."""
    low, high = bounds.wilson(right / n, n, 0.95)
    return {"value": right / n, "low": low, "high": high, "n": n}


def _played(
    task: Task,
    split: str,
    items: int,
    loaded: LoadedModel,
    engine: Engine,
    sampling: Sampling,
    context: Context | Sequence[Context] | None,
) -> list[Trajectory]:
    from opcd_bench.rollout.episodes import play
    from opcd_bench.rollout.trajectory import Skipped

    examples = task.examples(split)[:items]  # type: ignore[arg-type]
    seeds = [seed_of("card", task.name, example.id) for example in examples]
    played = play(
        task, examples, engine, loaded, sampling, seeds=seeds, env_seeds=seeds, context=context
    )
    for result in played:
        if isinstance(result, Skipped) or result.outcome == "failed":
            raise DataError(f"the card of {task.name}: {result.example_id} could not be played")
    return [result for result in played if not isinstance(result, Skipped)]


def _won(played: Sequence[Trajectory]) -> dict[str, Any]:
    right = sum(round(result.grade.score or 0.0) for result in played)
    parsed = sum(result.grade.score is not None for result in played)
    tokens = sum(len(turn.reply.ids) for result in played for turn in result.turns)
    turns = sum(len(result.turns) for result in played)
    return {
        **share(right, len(played)),
        "parsed": parsed / len(played),
        "reply_tokens": tokens / turns,
        "turns": turns / len(played),
    }


def _task(name: str, items: int, loaded: LoadedModel, engine: Engine, sampling: Sampling) -> Any:
    task = registry.task(name)
    context = task.context()
    floors, best = floors_and_best(task, task.examples("test")[:items])
    row: dict[str, Any] = {"floors": floors, "ceiling": best}
    if context.text:
        row["told"] = _won(_played(task, "test", items, loaded, engine, sampling, context))
    row |= _told_of_examples(task, items, loaded, engine, sampling)
    row["plain"] = _won(_played(task, "test", items, loaded, engine, sampling, None))
    return row


def _told_of_examples(
    task: Task, items: int, loaded: LoadedModel, engine: Engine, sampling: Sampling
) -> dict[str, Any]:
    """Accuracy with the hint, the answer, and the hint of the example before, as teachers read."""
    from opcd_bench.envs.readings import reference_words

    examples = task.examples("test")[:items]
    if any(example.hint is None or example.reference is None for example in examples):
        return {}
    hints, answers = [str(e.hint) for e in examples], [str(e.reference) for e in examples]
    texts = {
        "hint": hints,
        "answer": [reference_words(answer) for answer in answers],
        "other_hint": [hints[-1], *hints[:-1]],
    }
    return {
        name: _won(_played(task, "test", items, loaded, engine, sampling, list(map(Context, told))))
        for name, told in texts.items()
    }


def _reflection(
    name: str, items: int, loaded: LoadedModel, engine: Engine, sampling: Sampling
) -> dict[str, Any]:
    """Lessons of ``items`` plain attempts on train; then test told the best of these alone.

    Attempts are sampled at temperature 1 (a greedy player repeats one mistake), reflections are
    greedy. Contradictions are settled by what was seen more often (`items.consensus`).
    """
    from opcd_bench.experience.items import consensus
    from opcd_bench.experience.prompts import MicroPrompts
    from opcd_bench.experience.reflect import Asked, reflections

    task, prompts = registry.task(name), MicroPrompts()
    bold = replace(sampling, temperature=1.0)
    attempts = _played(task, "train", items, loaded, engine, bold, None)
    asked = [
        Asked(attempt, example, seed_of("card", example.id))
        for attempt, example in zip(attempts, task.examples("train"), strict=False)
    ]
    found = reflections(asked, prompts, loaded, engine, sampling)
    written = [lesson for one in found for lesson in one.items]
    truth = task.context().text
    kept = consensus(written)
    gained = _won(_played(task, "test", 200, loaded, engine, sampling, prompts.told(kept)))
    return {
        "attempts": items,
        "withheld": sum(one.status == "withheld" for one in found),
        "lessons": len(written),
        "different": len(set(written)),
        "kept": kept,
        "stated_in_the_context": sum(lesson in truth for lesson in written) / max(1, len(written)),
        "told_the_lessons": gained,
    }


def measure(
    folder: Path,
    *,
    name: str = "micro-small",
    items: int = 500,
    device: str = "auto",
    pretraining: Path | None = None,
    tasks: Sequence[str] = CARD_TASKS,
    reflection: Sequence[str] = ("rule_math", "frozen_lake", "sokoban"),
) -> dict[str, Any]:
    """Measure the model in ``folder`` (greedy) and write ``card.json`` and ``CARD.md`` into it.

    ``pretraining`` is the folder of the run that made it (``recipe.json``, ``log.jsonl``, and
    ``history.md`` where something was changed on the way).
    """
    from opcd_bench.evaluation import retention
    from opcd_bench.models import loading
    from opcd_bench.rollout.engine import Sampling
    from opcd_bench.rollout.hf import HFEngine

    began = time.perf_counter()
    made = {} if pretraining is None else {"pretraining": _pretraining(pretraining)}
    loaded = loading.load(str(folder), device=device)
    engine = HFEngine(loaded, batch_size=128)
    sampling = Sampling(temperature=0.0, max_completion_length=LIMIT)
    parameters = sum(p.numel() for p in loaded.model.parameters())
    card: dict[str, Any] = {"name": name, "parameters": parameters, **made}
    card["tasks"] = {name: _task(name, items, loaded, engine, sampling) for name in tasks}
    (result,) = retention.measure(
        loaded.model, loaded.tokenizer, ["ifeval_micro"], decoding=sampling, engine=engine
    )
    strict = result.metrics["prompt_level_strict_acc"]
    assert strict is not None, "lm-eval scores every record"
    card["ifeval_micro"] = {
        **share(round(strict * result.n), result.n),
        "by_instruction": {k: dict(v) for k, v in result.details["by_instruction"].items()},
        "lm_eval": result.details["lm_eval_version"],
    }
    card["reflection"] = {
        name: _reflection(name, ATTEMPTS, loaded, engine, sampling) for name in reflection
    }
    card["leak"] = {
        "rule_math": asdict(leak.of_chains()),
        "rule_choice": asdict(leak.of_choices()),
    }
    card["seconds"] = time.perf_counter() - began
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "CARD.md").write_text(render(card), encoding="utf-8")
    return card


def _pretraining(out: Path) -> dict[str, Any]:
    recipe, rows = read_object(out / "recipe.json"), read_rows(out / "log.jsonl")
    steps = [row for row in rows if "loss" in row]
    if not steps:
        raise StoreError(f"{out / 'log.jsonl'}: no step is logged yet; let micro pretrain go on")
    # A run that was killed and resumed wrote the rows after its checkpoint twice: the last count.
    curve = {round(row["seen"] / 1e6): row for row in rows if next(iter(CURVE)) in row}
    last = steps[-1]
    history = out / HISTORY
    return {
        "recipe": recipe,
        "history": history.read_text(encoding="utf-8").strip() if history.is_file() else "",
        "tokens": last["seen"],
        "steps": last["step"],
        "seconds": last["seconds"],
        "tokens_per_second": last["seen"] / last["seconds"],
        "final_loss": last["loss"],
        "curve": [curve[key] for key in sorted(curve)],
    }


def _percent(figure: Mapping[str, Any]) -> str:
    low, high = 100 * figure["low"], 100 * figure["high"]
    return f"{100 * figure['value']:.1f} % [{low:.1f}, {high:.1f}] (n = {figure['n']})"


def _told_of_examples_lines(card: Mapping[str, Any]) -> list[str]:
    """What the model makes of what a teacher may be told of an example alone."""
    rows = {name: row for name, row in card["tasks"].items() if set(TELLS) <= row.keys()}
    if not rows:
        return []
    return [
        "",
        f"| told of the example alone | {' | '.join(TELLS.values())} |",
        f"|---|{'---|' * len(TELLS)}",
        *(
            f"| {name} | {' | '.join(_percent(row[key]) for key in TELLS)} |"
            for name, row in rows.items()
        ),
    ]


def render(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    lines = [
        f"# The built-in model `{card['name']}`",
        "",
        "A Qwen3 of "
        f"{card['parameters'] / 1e6:.2f} million parameters, pre-trained by "
        f"`opcd-bench micro pretrain --size {card['name']}`",
        "on text drawn by `opcd_bench/envs/worlds/`. Greedy decoding unless said otherwise;",
        "95 % Wilson intervals. Held out of pre-training: every assignment of a rule to a name",
        "that `rule_math` and `told_other` use, the games' marks and controls, their test maps.",
        "Measured by `opcd-bench micro card --measure`.",
        "",
        "| task | with context | without context | floors | best possible |",
        "|---|---|---|---|---|",
    ]
    for name, row in card["tasks"].items():
        told = _percent(row["told"]) if "told" in row else "(the rules are in its own messages)"
        floors = ", ".join(f"{k} {100 * v:.1f} %" for k, v in row["floors"].items())
        ceiling = f"{100 * row['ceiling']:.0f} %"
        lines.append(f"| {name} | {told} | {_percent(row['plain'])} | {floors} | {ceiling} |")
    lines += _told_of_examples_lines(card)
    lines += ["", f"`ifeval_micro`, prompt-level strict: {_percent(card['ifeval_micro'])}.", ""]
    for name, row in card["reflection"].items():
        lines.append(
            f"* Reflection on {row['attempts']} attempts at `{name}` without context, with "
            "feedback"
            + f" ({row['withheld']} withheld, because it holds the answer)"
            * bool(row["withheld"])
            + f": {row['lessons']} lessons, {100 * row['stated_in_the_context']:.0f} % of them "
            "lines of the task's own context. With only the most frequent lesson on each "
            f"subject as its context ({len(row['kept'])} of {row['different']} different "
            f"lessons), the model scores {_percent(row['told_the_lessons'])} on test."
        )
    for name, row in card["leak"].items():
        lines.append(
            f"\nWhat the prompt of `{name}` gives away: a guess of the hidden rule's form from "
            f"the best single feature ({row['feature']}) is right in {100 * row['informed']:.1f} "
            f"% of {row['draws'] // 2} unseen draws, a blind guess in {100 * row['blind']:.1f} %."
        )
    if "pretraining" in card:
        made = card["pretraining"]
        lines += [
            "",
            "## Pre-training",
            "",
            f"{made['tokens'] / 1e6:.1f} million tokens without padding in {made['steps']} steps "
            f"and {made['seconds'] / 60:.0f} minutes on two CPU cores "
            f"({made['tokens_per_second']:.0f} tokens a second).",
            "",
            "Nothing but the recipe, the seed and the generators in `opcd_bench/envs/worlds/`",
            "decides the text and its order.",
            *(["", made["history"]] if made["history"] else []),
            "",
            "Recipe:",
            "",
            "```json",
            json.dumps(made["recipe"], indent=1),
            "```",
            "",
            f"| tokens (M) | {' | '.join(CURVE.values())} |",
            f"|---|{'---|' * len(CURVE)}",
            *(
                f"| {row['seen'] / 1e6:.1f} | {' | '.join(f'{row[key]:.2f}' for key in CURVE)} |"
                for row in made["curve"]
            ),
        ]
    return "\n".join(lines) + "\n"
