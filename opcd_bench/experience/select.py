"""Which of several contexts to use: scored on dev by successive halving, drawn, or the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opcd_bench.config.commands import SelectSettings
from opcd_bench.envs import context_file
from opcd_bench.envs.context_file import ContextFile
from opcd_bench.envs.task import Context, Task
from opcd_bench.errors import ConfigError, DataError, StoreError
from opcd_bench.experience.dev_scores import PLAIN, DevScores
from opcd_bench.experience.reader import Reader
from opcd_bench.progress import Phase, Reporter
from opcd_bench.rollout.engine import Sampling
from opcd_bench.seeds import generator
from opcd_bench.store.files import explained, require_room
from opcd_bench.version import __version__

ELSEWHERE = "Give another file with --out"
"""What to type of `opcd-bench select` where a choice cannot be in its file."""
SELECTED = "selected"
"""Where choices go, below the folder of the candidates."""


@dataclass(frozen=True)
class HalvingRound:
    """Candidates scored on the same first ``items`` dev examples: name -> mean score."""

    items: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Chosen:
    """The names chosen, the rounds that led there, and what they cost.

    ``plain`` is the score without a context on the last round's items. ``cost``: samples scored,
    tokens read and written, and the samples that scoring every candidate on all of them takes.
    """

    names: tuple[str, ...]
    rounds: tuple[HalvingRound, ...] = ()
    plain: float | None = None
    cost: Mapping[str, int] | None = None


def candidates_in(folder: Path) -> dict[str, ContextFile]:
    """The contexts of a folder by file name, in order; DataError where there are none."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "there is no such folder"
        raise DataError(
            f"{folder}: {what}. Give the folder of the contexts with --contexts; opcd-bench "
            "extract makes one"
        )
    files = sorted(p for p in folder.glob("*") if p.suffix in (".json", ".txt") and p.is_file())
    if not files:
        below = sorted({str(path.parent) for path in folder.glob("*/s*.json")})
        hint = f"; there are contexts in {' and '.join(below)}" if below else ""
        raise DataError(
            f"{folder} holds no context (*.json, *.txt){hint}. Give a folder that does with "
            "--contexts; opcd-bench extract makes one"
        )
    return {path.name: context_file.read(path) for path in files}


def without_scores(task: Task, candidates: Sequence[str], rule: str, seed: int) -> Chosen | None:
    """The choice of a rule that scores nothing: ``random`` or ``first-N``; None for ``best``.

    Raises ConfigError for any other rule, or more than there are.
    """
    if rule == "best":
        return None
    if rule == "random":
        return Chosen((generator("select", task.name, seed).choice(list(candidates)),))
    match = re.fullmatch(r"first-([1-9]\d*)", rule)
    if match is None:
        raise ConfigError(
            f"--select {rule} does not exist; allowed: best (on dev), random, or first-N "
            "(first-3: a pool of the first three)"
        )
    count = int(match[1])
    if count > len(candidates):
        raise ConfigError(
            f"--select {rule}, or of a suite [experience] select = {rule!r}: there are only "
            f"{len(candidates)} contexts"
        )
    return Chosen(tuple(candidates[:count]))


def halving(candidates: int, first_items: int, dev_items: int) -> list[tuple[int, int]]:
    """The rounds of successive halving (Jamieson and Talwalkar 2016): (candidates, dev items).

    All are scored on the first ``first_items`` examples, the better half goes on to twice as many,
    and so forth until one is left, or ``dev_items`` were used.
    """
    items = min(first_items, dev_items)
    rounds = [(candidates, items)]
    while candidates > 1 and items < dev_items:
        candidates, items = (candidates + 1) // 2, min(2 * items, dev_items)
        rounds.append((candidates, items))
    return rounds


def best(
    scores: DevScores, names: Sequence[str], first_items: int, dev_items: int, console: Reporter
) -> Chosen:
    """The best context on dev by successive `halving`, at most on all of dev.

    Of equals the first in order stays.
    """
    most = min(dev_items, len(scores.examples))
    if most < 1:
        raise DataError(f"task {scores.task.name!r} has no dev examples to select on")
    ranked = list(names)
    rounds: list[HalvingRound] = []
    with console.phase(f"{scores.task.name}: select on dev", None, "samples") as phase:
        for count, items in halving(len(names), first_items, most):
            found = _scored(scores, ranked[:count], items, phase)
            rounds.append(HalvingRound(items, found))
            ranked = sorted(found, key=lambda name: (-found[name], names.index(name)))
        plain = _scored(scores, [PLAIN], rounds[-1].items, phase)[PLAIN]
    cost = {**scores.cost(), "samples_of_all_on_all": len(names) * most}
    return Chosen((ranked[0],), tuple(rounds), plain, cost)


def _scored(scores: DevScores, names: Sequence[str], items: int, phase: Phase) -> dict[str, float]:
    before = scores.cost()["samples"]
    found = scores.score(names, items)
    phase.advance(scores.cost()["samples"] - before, items=items, contexts=len(names))
    return found


@dataclass(frozen=True)
class Selection:
    """What is chosen from: the contexts of a folder, for a task.

    ``first_items`` and ``dev_items`` are the dev examples of the first and of the last round.
    ``elsewhere``: what to type where the choice cannot be put.
    """

    task: Task
    folder: Path
    rule: str
    seed: int
    sampling: Sampling
    dev_items: int
    first_items: int = SelectSettings.model_fields["first_items"].default
    elsewhere: str = ELSEWHERE

    def run(
        self, out: Path | None, reader: Callable[[], Reader], console: Reporter
    ) -> tuple[Chosen, list[Path]]:
        """Choose, and write the chosen contexts with how they were chosen in their provenance.

        ``out`` None: ``selected/<rule>.json`` below the folder. ``reader`` is called only where
        something is scored: not for the best of contexts that all tell the same. The same call goes
        on where an earlier one was stopped. Raises StoreError where ``out`` holds another context.
        """
        files = candidates_in(self.folder)
        own = self.task.context().placement
        contexts = {name: Context(f.text, f.placement or own) for name, f in files.items()}
        record: dict[str, Any] = {"seed": self.seed, "opcd_bench": __version__}
        different = _different(contexts)
        chosen = without_scores(self.task, list(files), self.rule, self.seed)
        if chosen is None and len(different) == 1:
            chosen = Chosen(tuple(different))
        target = out or self.folder / SELECTED / f"{self.rule}.json"
        for path in _paths(target, 1 if chosen is None else len(chosen.names)):
            refuse_foreign(path, self.elsewhere)
        if chosen is None:
            read = reader()
            folder = self.folder / SELECTED
            scores = DevScores(self.task, contexts, read, self.sampling, self.seed, folder)
            chosen = best(scores, different, self.first_items, self.dev_items, console)
            record |= {"model": read.identity, "sampling": asdict(self.sampling)}
        selected = {
            "rule": self.rule,
            "split": "dev" if chosen.rounds else None,
            "candidates": {name: context.hash for name, context in contexts.items()},
            "rounds": [asdict(one) for one in chosen.rounds],
            "plain": chosen.plain,
            "cost": None if chosen.cost is None else dict(chosen.cost),
            **record,
        }
        paths = _paths(target, len(chosen.names))
        for name, path in zip(chosen.names, paths, strict=True):
            provenance = {**files[name].provenance, "selected": {**selected, "chosen": name}}
            context, items = contexts[name], files[name].items
            made = ContextFile(context.text, context.placement, items, provenance)
            _write(path, made, self.elsewhere)
        return chosen, paths


def _different(contexts: Mapping[str, Context]) -> list[str]:
    """The names without those that tell what an earlier one tells."""
    first: dict[str, str] = {}
    for name, context in contexts.items():
        first.setdefault(context.hash, name)
    return list(first.values())


def _paths(out: Path, count: int) -> list[Path]:
    """``out``, or ``out`` with a number before its ending for each of several."""
    if count == 1:
        return [out]
    return [out.with_name(f"{out.stem}.{number}{out.suffix}") for number in range(1, count + 1)]


def refuse_foreign(path: Path, elsewhere: str = ELSEWHERE) -> None:
    """Raise StoreError where a choice cannot be put, before anything is scored for it."""
    if path.is_dir():
        raise StoreError(
            f"{path} is a folder, and the chosen context goes to a file of that name. {elsewhere}"
        )
    with explained(path):
        require_room(path.parent)
    if not path.exists():
        return
    try:
        earlier = context_file.read(path).provenance
    except DataError:
        earlier = {}
    if "selected" not in earlier:
        raise StoreError(
            f"{path} is there and was not chosen by opcd-bench select, so it is not overwritten. "
            f"{elsewhere}"
        )


def _write(path: Path, made: ContextFile, elsewhere: str) -> None:
    """Put a choice at ``path``. The same choice stays as it is, whichever version made it."""
    if not path.exists():
        context_file.write(path, made)
    elif not context_file.tells(path, made) or _by(context_file.read(path)) != _by(made):
        raise StoreError(
            f"{path} holds an earlier, different choice, which a suite may be using. {elsewhere}, "
            "or move this one away"
        )


def _by(made: ContextFile) -> tuple[Any, Any]:
    """By which rule a context was chosen, and under which name."""
    selected = made.provenance.get("selected")
    named = selected if isinstance(selected, Mapping) else {}
    return named.get("rule"), named.get("chosen")
