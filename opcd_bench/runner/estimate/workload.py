"""How many tokens a suite's cells write, score and train on: bounds, and what stored runs say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

from opcd_bench.config import measures
from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs import data_sets
from opcd_bench.envs.task import Task
from opcd_bench.errors import MissingData, MissingPackage
from opcd_bench.evaluation.task_scores import further_sets
from opcd_bench.experience.select import Selection, halving
from opcd_bench.runner import registry
from opcd_bench.runner.grid import rates_and_seeds, seeds_left
from opcd_bench.runner.rounds.chain import as_scored, experience_of

KINDS = ("written", "told_written", "teacher_scored", "trained", "evaluated")


@dataclass(frozen=True)
class Tokens:
    """Reply tokens by what is done with them.

    ``written`` by students as they train, or attempt and reflect for a round's context;
    ``told_written`` by told teachers, once for all the cells that share them; ``teacher_scored``
    and ``trained`` in optimiser steps; ``evaluated``: written by models that are scored, on dev
    (candidates for a round's context too), on test and for retention.
    """

    written: int = 0
    told_written: int = 0
    teacher_scored: int = 0
    trained: int = 0
    evaluated: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(*(getattr(self, kind) + getattr(other, kind) for kind in KINDS))


@dataclass(frozen=True)
class Pace:
    """What a stored or rehearsed run of one task and method took, by optimiser step.

    ``written`` are the student's own tokens, ``trained`` all of the step's. ``other_seconds`` is
    what the whole cell took beside its steps (evaluation, checkpoints, shared scores), None where
    none ended in one sitting. ``peak_bytes`` is that of the process (of the GPU, where it ran on
    one).
    """

    steps: int
    trained: float
    written: float
    seconds_written: float
    seconds_trained: float
    phases: Mapping[str, float]
    other_seconds: float | None
    peak_bytes: int


@dataclass(frozen=True)
class Work:
    """What one task of a suite comes to. ``cells`` counts those chosen on dev too, and all rounds.

    ``expected`` is None where nothing stored or rehearsed says what replies are like.
    """

    task: str
    cells: int
    steps: int
    at_most: Tokens
    expected: Tokens | None


def runs_of(suite: Suite) -> list[int]:
    """The seed of every run of a (task, method): rates x seeds, those chosen on dev included."""
    seeds = [seed for _, seed in rates_and_seeds(suite)]
    if suite.headline_learning_rate == "dev":
        seeds += seeds_left(suite)
    return seeds * suite.rounds


def writes_told(method: Method) -> bool:
    """Whether told replies, stored and shared, are among what it trains on."""
    return any(part.writer.kind in ("teacher", "mixture") for part in method.parts)


def _shares(method: Method) -> list[tuple[Method, float]]:
    """The stages of a method, each with its share of the steps."""
    if method.begins is None:
        return [(method, 1.0)]
    first, last = method.parts
    return [(first, method.begins.share), (last, 1.0 - method.begins.share)]


def work(
    suite: Suite, task: Task, methods: Mapping[str, Method], paces: Mapping[str, Pace]
) -> Work:
    """The work of one task. ``paces``: method -> what a run of it took (those known).

    The bound takes every reply at its full length and every game at its last turn. A method without
    a pace is expected to be like the mean of those with one; evaluation, attempts and reflections
    are expected to use as much of their length as training does, in the mean.
    """
    own = suite.for_task(task.name)
    runs = runs_of(suite)
    replies = own.batch_size * own.num_generations * task.max_turns
    full = replies * own.max_completion_length
    bound = expected = Tokens()
    for method in methods.values():
        bound += _of_method(method, runs, own.max_steps, full, full)
        if paces:
            pace = paces.get(method.name)
            trained = pace.trained if pace else fmean(p.trained for p in paces.values())
            share = sum(part * (1.0 - one.writer.teacher_share) for one, part in _shares(method))
            written = pace.written if pace else trained * share
            expected += _of_method(method, runs, own.max_steps, trained, written)
    adapted = len(_adapting(suite, methods.values(), runs)) * own.max_steps
    bound += Tokens(written=adapted * full, trained=adapted * full)
    told = _told_runs(suite, methods.values(), runs) * own.max_steps
    context = _experience(suite, task, len(methods))
    evaluated = _evaluated(suite, task, len(methods), runs) + context.evaluated
    shared = [p.trained for name, p in paces.items() if writes_told(methods[name])]
    shared = shared or [pace.trained for pace in paces.values()]
    if paces:
        like = fmean(pace.trained for pace in paces.values()) / full
        mean = round(adapted * fmean(pace.trained for pace in paces.values()))
        expected += Tokens(
            written=round(context.written * like) + mean,
            trained=mean,
            told_written=round(told * fmean(shared)),
            evaluated=round(evaluated * like),
        )
    return Work(
        task=task.name,
        cells=len(methods) * len(runs),
        steps=len(methods) * len(runs) * own.max_steps,
        at_most=bound
        + Tokens(written=context.written, told_written=told * full, evaluated=evaluated),
        expected=expected if paces else None,
    )


@dataclass(frozen=True)
class Seconds:
    """What a task's cells take, one after the other; ``other`` is evaluation, mostly."""

    writing: float
    training: float
    other: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.writing + self.training + self.other


def seconds(
    suite: Suite, task: Task, methods: Mapping[str, Method], paces: Mapping[str, Pace]
) -> Seconds | None:
    """The time of one task; None without any pace.

    A method without one takes the mean of the others, and so does what adapts a teacher. Told
    replies are written once for all the cells that share them. Beside the steps: as cells took that
    ended in one sitting, or else what evaluation writes, at the speed at which replies were written
    for training; so are attempts and reflections of rounds.
    """
    if not paces:
        return None
    own, runs = suite.for_task(task.name), runs_of(suite)
    writing = training = 0.0
    for method in methods.values():
        known = _known(method.name, paces)
        training += len(runs) * own.max_steps * fmean(p.seconds_trained for p in known)
        if not writes_told(method):
            writing += len(runs) * own.max_steps * fmean(p.seconds_written for p in known)
    for by in _adapting(suite, methods.values(), runs):
        known = _known(by, paces)
        training += own.max_steps * fmean(p.seconds_trained for p in known)
        writing += own.max_steps * fmean(p.seconds_written for p in known)
    told = [p.seconds_written for name, p in paces.items() if writes_told(methods[name])]
    writers = max(paces.values(), key=lambda pace: pace.seconds_written)
    shared = max(told, default=writers.seconds_written)  # the one of them that wrote
    writing += _told_runs(suite, methods.values(), runs) * own.max_steps * shared
    speed = writers.seconds_written / writers.trained
    full = own.batch_size * own.num_generations * task.max_turns * own.max_completion_length
    like = fmean(pace.trained for pace in paces.values()) / full
    writing += _experience(suite, task, len(methods)).written * like * speed
    whole = [p.other_seconds for p in paces.values() if p.other_seconds is not None]
    if whole:
        other = len(methods) * len(runs) * fmean(whole)
    else:
        expected = work(suite, task, methods, paces).expected
        assert expected is not None
        other = expected.evaluated * speed
    return Seconds(writing, training, other)


def _known(method: str, paces: Mapping[str, Pace]) -> list[Pace]:
    """A method's own pace, or all that there are in its place."""
    return [paces[method]] if method in paces else list(paces.values())


def _of_method(
    method: Method, runs: Sequence[int], steps: int, trained: float, written: float
) -> Tokens:
    """Of all its cells; ``trained`` and ``written`` are tokens of one step."""
    count = len(runs) * steps
    # ``written`` is a step's mean where it is known, and what the student can write at most.
    sampled = any(part.writer.kind not in ("teacher", "stored") for part in method.parts)
    own = written if sampled else 0.0
    scored = sum(share for part, share in _shares(method) if part.needs_teacher)
    return Tokens(
        written=round(count * own),
        teacher_scored=round(count * trained * scored),
        trained=round(count * trained),
    )


def _adapting(suite: Suite, methods: Iterable[Method], runs: Sequence[int]) -> list[str]:
    """By what each teacher is adapted that is, one a seed, which is trained as a run is.

    As told replies are, it is shared by methods, but by no two rounds of chains (`_told_runs`).
    """
    each = [
        {(by, part.teacher.by_reads) for part in method.parts if (by := part.teacher.by)}
        for method in methods
    ]
    if suite.chained:
        return [by for found in each for by, _ in sorted(found)] * len(runs)
    return [by for by, _ in sorted({one for found in each for one in found})] * len(set(runs))


def _told_runs(suite: Suite, methods: Iterable[Method], runs: Sequence[int]) -> int:
    """How many runs' worth of told replies are written: one a seed, teacher and thing it reads.

    Every round of a chain has a student and a context of its own, and shares none; at most, for
    first rounds do, where one is after the other.
    """
    told = [
        (
            part.teacher.weights == "larger",
            part.teacher.by,
            part.teacher.by_reads,
            part.writer.reads,
        )
        for method in methods
        for part in method.parts
        if writes_told(part)
    ]
    if suite.chained:
        return len(told) * len(runs)
    return len(set(told)) * len(set(runs))


def _evaluated(suite: Suite, task: Task, methods: int, runs: Sequence[int]) -> int:
    """At most: on dev and on test, by students, the base and told teachers.

    A round of a chain shares none of it, as in `_told_runs`, and scores the retention of its own
    base too.
    """
    own = as_scored(suite).for_task(task.name)
    reply = task.max_turns * own.max_completion_length
    cells = methods * len(runs)
    dev, test = own.dev_items * reply, own.test_items * own.eval_samples * reply
    probed, probed_base = (items * own.eval_samples * reply for items in _probed(own, task))
    if suite.chained:
        bases = cells
    else:
        bases = 1 if suite.eval_temperature == 0 else len(set(runs))
    told = 2 if suite.teacher_model is not None else 1
    scored = (len(own.evaluated_steps()) - 1) * cells  # step 0 is the base
    # Measured on the way to the chosen step, it is not measured again.
    anew = not suite.eval_retention or suite.choose not in ("dev", "last")
    retained = scored * suite.eval_retention + cells * anew + bases * suite.chained
    # Interpolations of every run, and models from elsewhere, with the retention of each.
    others = cells * len(suite.interpolate) + len(suite.entrants) * bases
    return (
        others * (test + retention_tokens(suite))
        + scored * dev
        + cells * test
        + bases * (dev + (1 + told) * test)
        + cells * probed
        + bases * (probed + told * probed_base)
        + retained * retention_tokens(suite)
    )


def _probed(suite: Suite, task: Task) -> tuple[int, int]:
    """Examples of a task's further test sets, and of those that told teachers are scored on."""
    with suppress(MissingData, MissingPackage), data_sets.local_only():
        sizes = [(len(one.examples), one.reads) for one in further_sets(task, suite)]
        return sum(n for n, _ in sizes), sum(n for n, reads in sizes if reads == "nothing")
    return 0, 0


def _experience(suite: Suite, task: Task, methods: int) -> Tokens:
    """At most: attempts and reflections of all rounds as written, choices of contexts as evaluated.

    Chains that begin alike share them: those of one seed in the first round.
    """
    if not suite.chained:
        return Tokens()
    own, recipe = suite.for_task(task.name), experience_of(suite)
    chains = methods * len(rates_and_seeds(suite))
    seeds = len({seed for _, seed in rates_and_seeds(suite)})
    made = seeds + (suite.rounds - 1) * chains
    reply = task.max_turns * own.max_completion_length
    reflection = 0 if recipe.variant == "raw-traces" else recipe.max_reflection_length
    samples = _halving(recipe.seeds, own.dev_items) if recipe.select == "best" else 0
    return Tokens(
        written=made * recipe.items * recipe.seeds * (reply + reflection),
        evaluated=made * samples * reply,
    )


def _halving(candidates: int, dev_items: int) -> int:
    """The samples that choosing the best scores at most, those without a context included.

    An example that was scored in one round is not scored again in the next; one candidate is chosen
    without a score.
    """
    if candidates == 1:
        return 0
    samples = before = 0
    for count, items in halving(candidates, Selection.first_items, dev_items):
        samples += count * (items - before)
        before = items
    return samples + before


def retention_tokens(suite: Suite) -> int:
    """At most, of one measurement of all retention tasks; 0 where their items are not limited."""
    if suite.retention_items is None:
        return 0
    ours = registry.plugin_files(registry.TASKS_PACKAGE)
    length = 0
    for name in suite.retention:
        if measures.is_measure(name):  # reads what is stored: nothing is generated
            continue
        if name in ours:
            task = registry.task(name, history=suite.history, data_dir=suite.data_dir)
            length += task.max_turns * suite.max_completion_length
        else:
            length += suite.retention_max_completion_length
    return suite.retention_items * length
