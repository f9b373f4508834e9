"""`opcd-bench probe`: what stored runs' students do that no score of a suite shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opcd_bench.cli import settings
from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json, print_json, records, say
from opcd_bench.cli.settings import Assignments
from opcd_bench.cli.show import OutputDir
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError
from opcd_bench.progress import reporter
from opcd_bench.store.locate import located
from opcd_bench.store.run_reader import CHECKPOINTS
from opcd_bench.store.suite_dir import SuiteDir

if TYPE_CHECKING:
    from opcd_bench.envs.task import Split, Task
    from opcd_bench.report.page.probed import Kind
    from opcd_bench.runner.probing import Place, Student
    from opcd_bench.runner.resources import Resources

app = typer.Typer(
    help="Probe the students of stored runs: hand their responses over, or compare them with the "
    "exact optimum.",
    no_args_is_help=True,
)

Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...",
        help="Runs, checkpoints (RUN/checkpoints/step_000050) or a suite, by folder or name.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="In place of runs, a model: Hub id, local folder, or 'micro-small' (built in)."
    ),
]
Tasks = Annotated[
    str | None, typer.Option("--tasks", "--task", metavar="A,B", help="Tasks for --model.")
]
Contexts = Annotated[
    list[str] | None,
    typer.Option("--context", help="Context files for --model (repeatable: a pool)."),
]
SplitOption = Annotated[str, typer.Option("--split", metavar="dev|test", help="Which examples.")]
Items = Annotated[int, typer.Option(min=2, help="Maximum number of examples.")]
Base = Annotated[bool, typer.Option("--base/--no-base", help="Probe the base model too.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder for table and figure (default: beside the report).")
]


@app.command("prefix")
def prefix(
    context: typer.Context,
    runs: Runs = None,
    model: Model = None,
    tasks: Tasks = None,
    contexts: Contexts = None,
    teachers: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Who goes on: in-context, larger, larger-no-context, adapted-… (default: all).",
        ),
    ] = None,
    continuations: Annotated[
        int, typer.Option(min=2, help="Continuations of every beginning, by each who goes on.")
    ] = 4,
    split: SplitOption = "dev",
    items: Items = 64,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature (default: the suite's).")
    ] = None,
    base: Base = True,
    assignments: Assignments = None,
    out: Out = None,
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Hand responses of students over to teachers, at 0, 25, 50 and 75 % of their tokens.

    Shown are the teacher's accuracy from there beside its accuracy on its own tokens, and how many
    wrong responses it rescues: turns right, less how many the student itself turns right. Stored
    runs are shared among as many processes as their suite had jobs on its machine (--set jobs=2).
    """
    suite, found = _subject(runs, model, tasks, contexts, assignments, output_dir, "prefix")
    from opcd_bench.runner import prefix_probe, probe_jobs, probing
    from opcd_bench.runner.resources import Resources

    asked = prefix_probe.Asked(_split(split, found), items, continuations, temperature)
    names = None if teachers is None else settings.names(teachers)
    known = prefix_probe.teachers_of(
        [probing.method_of(place) for place in found], suite.teacher_model is not None
    )
    chosen = prefix_probe.chosen(known, names)
    prefix_probe.sampling_of(suite, asked)
    asked_of = _tasks(suite, found)
    with interruptible(context, "What is stored stays"):
        console, suite_dir = reporter(), SuiteDir(Path(suite.output_dir) / suite.name)
        here = suite.cluster == "local" and suite.processes == 1
        if found and suite.jobs > 1 and here:
            bases = probing.bases(found, asked_of) if base else []
            probe_jobs.probe(suite, asked, chosen, found, bases, console)
        else:
            resources = Resources(suite, suite_dir, console)
            probe = prefix_probe.PrefixProbe(resources, asked, chosen, console)
            _each(resources, found, asked_of, base, probe.probe)
    _tell(suite_dir, "prefix", out, json)


@app.command("optimum")
def optimum(
    context: typer.Context,
    runs: Runs = None,
    model: Model = None,
    tasks: Tasks = None,
    contexts: Contexts = None,
    most: Annotated[
        int, typer.Option("--most-contexts", min=1, help="At most so many contexts of a pool.")
    ] = 64,
    split: SplitOption = "dev",
    items: Items = 64,
    base: Base = True,
    assignments: Assignments = None,
    out: Out = None,
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Compare students with the exact optimum of one without context (answers of one token).

    Over the contexts that may belong to a prompt, forward KL is least at the arithmetic mean of the
    in-context teacher's distributions, reverse KL at their normalised geometric mean.
    """
    suite, found = _subject(runs, model, tasks, contexts, assignments, output_dir, "optimum")
    from opcd_bench.runner import optimum_probe, probing
    from opcd_bench.runner.resources import Resources

    asked = optimum_probe.Asked(_split(split, found), items, most)
    its = [place for place in found if optimum_probe.is_of(probing.method_of(place))]
    if found and not its:
        raise ConfigError(
            "probe optimum: the optimum is that of the initial student's distributions with the "
            "context, and none of these runs has that teacher; give runs such as opcd_full's"
        )
    asked_of = _tasks(suite, its)
    with interruptible(context, "What is stored stays"):
        console, suite_dir = reporter(), SuiteDir(Path(suite.output_dir) / suite.name)
        resources = Resources(suite, suite_dir, console)
        probe = optimum_probe.OptimumProbe(resources, asked, console)
        if len(its) < len(found):
            console.note(
                f"{len(found) - len(its)} of {len(found)} runs are left out: their teachers are "
                "not the initial student with the context, and have another optimum"
            )
        _each(resources, its, asked_of, base, probe.probe)
    _tell(suite_dir, "optimum", out, json)


def _subject(
    runs: Sequence[str] | None,
    model: str | None,
    tasks: str | None,
    contexts: Sequence[str] | None,
    assignments: Sequence[str] | None,
    output_dir: str,
    kind: Kind,
) -> tuple[Suite, list[Place]]:
    """The suite that is probed, and its runs: none for a model, which is then the base."""
    if bool(runs) == bool(model):
        raise ConfigError(
            f"probe {kind}: name what is probed: runs (opcd-bench probe {kind} RUN), or a model "
            f"and its tasks (--model micro-small --tasks rule_math){', not both' if runs else ''}"
        )
    if model is not None:
        if tasks is None:
            raise ConfigError(f"probe {kind}: --model needs --tasks TASK, which it is asked")
        words = {"model": model, "tasks": tasks, "context": contexts, "output_dir": output_dir}
        return settings.make(None, words, assignments), []
    if tasks or contexts:
        raise ConfigError(
            f"probe {kind}: --tasks and --context belong to --model; stored runs have their own"
        )
    from opcd_bench.runner import probing

    found = probing.places([_located(run, output_dir) for run in runs or ()])
    return probing.stored_suite(found[0].root, settings.assigned(assignments or ())), found


def _located(word: str, output_dir: str) -> Path:
    """A run or suite, or a checkpoint of a run."""
    path = Path(word)
    if path.parent.name == CHECKPOINTS and path.is_dir():
        return path
    return located(word, output_dir)


def _split(word: str, found: Sequence[Place]) -> Split:
    """Which examples are asked; ConfigError for test before a run has chosen its step."""
    if word == "dev":
        return "dev"
    if word != "test":
        raise ConfigError(f"--split {word!r}: use dev or test")
    from opcd_bench.store.run_reader import RunReader

    unsealed = [place.run for place in found if not RunReader(place.run).sealed]
    if unsealed:
        raise ConfigError(
            f"--split test: {unsealed[0]} is not finished, and test is not read before a run has "
            "chosen its step; use --split dev"
        )
    return "test"


def _tasks(suite: Suite, found: Sequence[Place]) -> dict[str, Task]:
    """The tasks that are asked, by name; DataError for one without a context to be told."""
    from opcd_bench.evaluation.task_scores import contexts_of
    from opcd_bench.runner import probing, registry
    from opcd_bench.runner.plugins import asked

    names = [probing.task_of(place) for place in found] or list(suite.tasks)
    tasks = {name: registry.task_of(suite, name) for name in names}
    for task in tasks.values():
        asked(task, partial(contexts_of, task))
    return tasks


def _each(
    resources: Resources,
    found: Sequence[Place],
    tasks: Mapping[str, Task],
    base: bool,
    probe: Callable[[Student, Task], None],
) -> None:
    """Probe the base, once a task and seed, and every student."""
    from opcd_bench.runner import probing

    if not found:
        resources.suite_dir.merge(resources.suite.stored())
    students = [probing.student(resources, place) for place in found]
    resources.models.engines.start()
    bases = [probing.base(resources, *pair) for pair in probing.bases(found, tasks)]
    for student in [*(bases if base or not found else []), *students]:
        probe(student, tasks[str(student.about["task"])])


def _tell(suite_dir: SuiteDir, kind: Kind, out: Path | None, json: bool) -> None:
    from opcd_bench.report.page import probed

    root = suite_dir.path
    found = probed.probed(root, kind)
    written = probed.write(found, root, out)
    if json:
        print_json({"suite": str(root), "kind": kind, "rows": records(found.frame)})
        return
    say(probed.as_text(found))
    say(f"\nWritten to {written.page.parent}; every row: {root / 'shared'}")
