"""What a script does with the harness: run a suite, and read what is stored of one."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from opcd_bench.errors import ConfigError, StoreError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from opcd_bench.config.suite import Suite
    from opcd_bench.report.analysis.load import StoredResults
    from opcd_bench.report.page.side_by_side import SideBySide

Names = str | Path | Sequence[str | Path]
"""One name or file, or several."""


class FailedCell(NamedTuple):
    """A cell that failed, or a round of a chain: which run, and why."""

    run: str
    task: str
    method: str
    learning_rate: float
    seed: int
    reason: str


@dataclass(frozen=True, repr=False)
class Results:
    """The stored results of a suite, read when they are first asked for, and once.

    Frames are ordinary pandas, a number a column. Accuracies, retention and their differences are
    shares in [0, 1], not percent. Beside a statistic ``x`` stand ``x_low`` and ``x_high``, the ends
    of its 95 % bootstrap interval over examples, NaN where there is none (one example, or a value
    that does not vary). `load_results` reads a suite again after more has run.
    """

    path: Path
    """The suite's folder, from the root: the working folder may change."""

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The suite's settings as they are stored."""
        return dict(self._stored.suite)

    @cached_property
    def headline(self) -> pd.DataFrame:
        """The comparison: one row a (task, method, learning rate).

        ``headline``: whether the method is compared at this learning rate. ``seeds``: how many are
        done; ``state``: "done", or what is missing and why; ``n``: test examples; ``control``, if
        the suite has any: a method that cannot work by construction, to show that the harness does.

        Scores on test: ``accuracy`` (after training, without context), ``base`` (before training),
        ``ceiling`` (the in-context teacher; ``larger_teacher`` says whose, where a larger one
        teaches some methods), ``floor`` (the best score of a few policies that do not
        use the context), ``gap_closed`` ((accuracy - base) / (ceiling - base)), ``parsed``
        (share of the responses that contain an answer), ``minimum_detectable_effect`` (between two
        methods, power 80 %; NaN where all score alike, infinite with too few examples).
        Where a teacher reads something else than the shared context, ``measured_against`` names its
        ceiling. ``mentions_context`` and ``copies_context`` (and ``…_of_base``, before training):
        the share of the responses without context that speak of one, and of their words' 4-grams
        that stand in it alone; for suites that store what teachers read.

        Cost, as means over the seeds: ``tokens_generated`` (by the rollout policy),
        ``tokens_scored`` (by the teacher), ``seconds`` (of training, without evaluations).
        ``chosen_steps``: by seed. ``runs``: the finished runs, by name.

        A retention task adds ``<task>_before``, ``<task>_after``, ``<task>_change`` and
        ``<task>_minimum_detectable_effect``.

        A row without a finished cell has no numbers. Raises StoreError where the cells cannot stand
        in one table.
        """
        from opcd_bench.report.analysis import flat

        return flat.of_headline(self._stored)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Every final score of the finished runs, and of base and ceiling: one row a sample.

        Columns task, method ("base" and "ceiling" too), learning_rate, seed, measured (the task or
        a retention task), split ("test" or "retention"), example_id, sample, score (in [0, 1], NaN
        where unscored), outcome (correct, wrong, unparsable, truncated, failed, skipped) and
        score_without_loops (0 where the response repeats itself in a loop).
        """
        from opcd_bench.report.analysis import flat

        return flat.of_samples(self._stored)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """How training went: one row a (run, evaluated step), step 0 before training.

        Columns task, method, learning_rate, seed, headline, step, tokens (of responses, trained on
        until then), dev_accuracy, and one a retention task. Dev chose the step: report test.
        """
        from opcd_bench.report.analysis import flat

        return flat.of_curves(self._stored)

    @cached_property
    def training(self) -> pd.DataFrame:
        """What was logged at every optimiser step, as ``train.jsonl`` has it: divergences in nats,
        entropies, gradient norm, tokens; ``step_learning_rate`` is that of the step.
        """
        return self._stored.trains

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row a (task, method, learning rate, round) of a suite of rounds; else empty.

        On test: ``before`` and ``after`` (the student without context, before and after the round),
        ``with_context`` (the student that entered the round), ``gain`` and ``since_start`` (since
        round 1), ``deployed`` (its attempts that the context was made of). ``items`` and
        ``tokens``: of the context. ``mentions_context`` and ``copies_context`` (and ``…_before``,
        of the student that entered the round): as in ``headline``. ``missing``: why seeds lack.
        Each round is a suite of its own, below ``rounds/``, and the other frames are empty.
        """
        from opcd_bench.report.analysis import flat
        from opcd_bench.report.tables import rounds

        return flat.of_rounds(rounds.read(self.path))

    @cached_property
    def entrants(self) -> pd.DataFrame:
        """Models that were scored and not trained here: entrants and interpolations; or empty.

        ``kind``: "checkpoint" or "interpolation" (of ``method``, ``share`` of the way from the base
        to the trained model). ``accuracy``, ``base`` and ``gain`` on test; a retention task adds
        ``<task>_after`` and ``<task>_change``.
        """
        from opcd_bench.report.analysis import entrants, flat

        return flat.of_entrants(entrants.frame(self._stored))

    @cached_property
    def failed(self) -> tuple[FailedCell, ...]:
        """The cells that failed, with reasons; rounds of chains too. Empty where none did."""
        from opcd_bench.report.analysis import load
        from opcd_bench.store.chain_dir import chains

        found = [self._stored.cells]
        listed: list[FailedCell] = []
        for chain in chains(self.path):
            found += [load.load(run.parent).cells for run in chain.runs()]
            if failure := chain.failure():
                config = chain.config()
                listed.append(
                    FailedCell(
                        chain.path.name, config["task"]["name"], config["method"]["name"],
                        config["learning_rate"], config["seed"],
                        f"round {failure['round']}: {failure['reason']}",
                    )
                )  # fmt: skip
        for cells in found:
            rows = cells[cells["state"] == "failed"][list(FailedCell._fields)]
            listed += [FailedCell(*row) for row in rows.itertuples(index=False, name=None)]
        return tuple(listed)

    def report(self, path: str | Path | None = None) -> Path:
        """Render the report into a folder; the path of its page.

        ``path``: by default ``reports/<suite>`` beside the ``results/`` that the suite lies in.
        Raises StoreError for a folder that holds something else.
        """
        from opcd_bench.report.page import folder
        from opcd_bench.report.page.make import make

        where = folder.default_out(self.path) if path is None else Path(path)
        _, written = make(_from_here(self.path), where)
        return written.page

    def forgetting_plot(self, task: str | None = None) -> Figure:
        """What each method gained on a task against what it forgot, a panel a retention task.

        In points, with intervals; the same drawing as the report's. ``task``: by default the
        suite's first. Raises StoreError where no finished cell has both, UnknownName for a task.
        """
        from opcd_bench.errors import UnknownName
        from opcd_bench.report.analysis import forgetting, order
        from opcd_bench.report.figures import style
        from opcd_bench.report.figures.forgetting import figure

        points = forgetting.points(self._stored)
        tasks = sorted(set(points["task"]))
        if not tasks:
            raise StoreError(
                f"{self.path}: no finished cell was scored on test and on a retention task, so "
                "there is nothing to draw"
            )
        if task is None:
            task = next((one for one in self.settings.get("tasks", []) if one in tasks), tasks[0])
        if task not in tasks:
            raise UnknownName("task", task, tasks, where="with a finished cell")
        return figure(points, task, style.palette(*order.methods(self._stored)))

    def side_by_side(
        self, example_id: str | None = None, *, task: str | None = None, method: str | None = None
    ) -> SideBySide:
        """One test example's responses: before training, after it, and with the context.

        ``example_id``: by default one that training put right, if there is one; ``task`` and
        ``method``: by default the suite's first. The run is that of the first seed, at the learning
        rate where the method is compared. Raises UnknownName or StoreError.
        """
        from opcd_bench.report.page.side_by_side import side_by_side

        return side_by_side(self._stored, example_id, task=task, method=method)

    def __repr__(self) -> str:
        counts = self._stored.cells["state"].value_counts()
        said = ", ".join(f"{count} {state}" for state, count in counts.items())
        rounds = "" if self.rounds.empty else f", {len(self.rounds)} rounds"
        return f"<Results of {_from_here(self.path)}: {said or 'no single cell'}{rounds}>"

    def _repr_html_(self) -> str:
        """The comparison as a notebook shows it."""
        from html import escape

        from opcd_bench.report.analysis import headline
        from opcd_bench.report.tables import layout, markup, rounds

        chained = rounds.sections(rounds.read(self.path))
        if chained:
            return markup.sections_html([markup.unlinked(section) for section in chained])
        table = headline.headline(self._stored)
        shown = markup.sections_html([markup.unlinked(one) for one in layout.sections(table)])
        return shown + "".join(f"<p>{escape(line)}</p>\n" for line in layout.caption(table))

    @cached_property
    def _stored(self) -> StoredResults:
        from opcd_bench.report.analysis import load

        return load.load(self.path)


def _from_here(path: Path) -> Path:
    """A path as it is typed in the working folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def load_results(suite: str | Path, *, output_dir: str | Path = "results") -> Results:
    """What is stored of a suite, finished or not; reads only, and never loads torch.

    ``suite``: its folder ("results/quick"), or its name in ``output_dir``. Raises StoreError for a
    folder that is no suite's, UnknownName with near names where nothing is called so.
    """
    from opcd_bench.store.locate import located
    from opcd_bench.store.suite_dir import is_suite

    path = located(str(suite), str(output_dir))
    if not is_suite(path):
        raise StoreError(f"{path}: a run, not a suite; give the folder of its suite: {path.parent}")
    return Results(path.absolute())


def run(
    suite: str | Path | Suite | None = "quick",
    *,
    methods: Names | None = None,
    tasks: Names | None = None,
    size: str | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Results:
    """Train, score and compare: methods x tasks x learning rates x seeds, as ``opcd-bench run``.

    ``suite``: a suite by name, a TOML file, or a `Suite`; None: only the settings given here, over
    those of ``quick``. ``methods`` and ``tasks``: names or files, in place of the suite's.
    ``size``: one of the sizes of a suite. ``settings``: any field of `Suite` as a Python value
    (``learning_rate=3e-4``, ``retention=[]``, ``jobs=1``). ``quiet``: show no progress.

    The same call resumes what was interrupted, and keeps what is done. Results lie in
    ``<output_dir>/<name>``: a suite whose shared settings are changed gets a name of its own,
    unless ``name`` says one. A cell that fails does not end the others: `Results.failed` has its
    reason, and a RuntimeWarning says so. Before anything runs it raises ConfigError for settings
    that cannot be used, all of them at once, and UnknownName for a method, task, suite or size.
    """
    from opcd_bench.progress import QuietReporter, reporter
    from opcd_bench.runner.rounds import any_suite

    given = {**settings}
    for kind, names in (("methods", methods), ("tasks", tasks)):
        if names is not None:
            given[kind] = _names(kind, names)
    wanted = _wanted(suite, size, given)
    with _script_stays_out_of_workers(wanted):
        summary = any_suite.run(wanted, console=QuietReporter() if quiet else reporter())
    if summary.failed:
        what = "rounds" if wanted.chained else "cells"
        warnings.warn(
            f"{summary.failed} of {summary.total} {what} failed; the reasons: results.failed",
            RuntimeWarning,
            stacklevel=2,
        )
    return Results(summary.suite_dir.absolute())


def _wanted(suite: str | Path | Suite | None, size: str | None, given: dict[str, Any]) -> Suite:
    """The suite that a call of `run` asks for."""
    from opcd_bench.config.suite import Suite
    from opcd_bench.runner import registry, requested

    if suite is None and not ({"methods", "tasks"} & set(given)):
        raise ConfigError(
            "run(): nothing to run; name a suite (suite='quick'), or methods and tasks "
            "(methods=['opcd'], tasks=['rule_math'])"
        )
    if size is not None and (suite is None or isinstance(suite, Suite)):
        raise ConfigError(f"run(): size={size!r} belongs to a suite given by name or as a file")
    given = {key: _text_of_paths(value) for key, value in given.items()}
    if isinstance(suite, Suite):
        return requested.suite(suite, given, f"suite {suite.name!r} with run()'s settings")
    base = registry.suite(suite or requested.SHARED_SETTINGS, size=size)
    where = "run()" if suite is None else f"{suite} with run()'s settings"
    return requested.suite(base, given, where, custom=suite is None)


def _names(kind: str, names: Names) -> Names:
    """Names as settings take them; ConfigError for an object, which no worker could load again."""
    for name in names if isinstance(names, list | tuple) else [names]:
        if not isinstance(name, str | Path):
            raise ConfigError(
                f"run(): {kind} holds {name!r}; give names or files, not objects, so that worker "
                "processes can load them and the run can be repeated: put it into a file of its own"
                f" and write {kind}=['./my_{kind[:-1]}.py']"
            )
    return names


def _text_of_paths(value: Any) -> Any:
    """A setting with texts in place of Path objects."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_text_of_paths(one) for one in value]
    return value


@contextmanager
def _script_stays_out_of_workers(suite: Suite) -> Iterator[None]:
    """Worker processes see an empty main module.

    They would import the script that calls `run`, and so call it again, unless the script had
    ``if __name__ == "__main__":`` around it. They need nothing of it.
    """
    if suite.jobs == 1:
        yield
        return
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
