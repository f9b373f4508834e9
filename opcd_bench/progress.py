"""How long work reports itself: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from opcd_bench.printable import one_line, printable

PLAIN_SECONDS = 5.0
"""Fewest seconds between two lines of one phase where the output is no terminal."""


class Phase(Protocol):
    """A piece of work under way."""

    def advance(self, n: int = 1, **info: Any) -> None:
        """``n`` more units are done; ``info`` (loss=…, kl=…) is shown beside the count."""
        ...


class Reporter(Protocol):
    """What the harness tells the person who waits; changes no number."""

    def phase(
        self, name: str, total: int | None, unit: str, *, done: int = 0
    ) -> AbstractContextManager[Phase]:
        """Show a phase of ``total`` units (None: unknown) until the context is left.

        ``done`` units were there before, and do not count as this phase's pace.
        """
        ...

    def note(self, text: str) -> None:
        """One line that a person wants to see."""
        ...

    def warn(self, text: str) -> None:
        """One line that a person should act on."""
        ...


_OPEN: ContextVar[Phase | None] = ContextVar("open", default=None)


def beat(**info: Any) -> None:
    """Long work within a unit of the innermost phase says how far it is: ``token=40/256``."""
    if (phase := _OPEN.get()) is not None:
        phase.advance(0, **info)


@contextmanager
def _innermost(phase: Phase) -> Iterator[Phase]:
    token = _OPEN.set(phase)
    try:
        yield phase
    finally:
        _OPEN.reset(token)


def shown(info: dict[str, Any]) -> str:
    """``loss=0.123 step=4`` from a phase's info; floats with four significant digits."""
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in info.items())


def duration(seconds: float) -> str:
    """``3 s``, ``2 min 05 s`` or ``1 h 02 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class QuietReporter:
    """Shows nothing and remembers notes and warnings: for tests."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, *, done: int = 0) -> Iterator[Phase]:
        """A phase that nobody watches."""
        yield _Silent()

    def note(self, text: str) -> None:
        """Remember the line."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Remember the line."""
        self.warnings.append(text)


class _Silent:
    def advance(self, n: int = 1, **info: Any) -> None:
        """Count nothing."""


BEATS = "OPCD_BENCH_BEATS"
"""The variable that names the folder in which worker processes of this machine say what they do."""
BEAT_SECONDS = 2.0
NOW = "now"
"""The info of a phase that says what workers are at; its last line has none."""


def worker_reporter() -> QuietReporter:
    """The reporter of a worker process: its parent shows what it is at, where it can read it."""
    folder = os.environ.get(BEATS)
    return QuietReporter() if folder is None else WorkerReporter(Path(folder) / str(os.getpid()))


def workers_say() -> dict[str, str]:
    """What the workers of this process are at, as the info of a phase; nothing where none says."""
    found = []
    for file in sorted(Path(folder).iterdir()) if (folder := os.environ.get(BEATS)) else ():
        with contextlib.suppress(OSError, UnicodeDecodeError):  # it may go meanwhile
            found.append(file.read_text())
    return {NOW: "; ".join(found)} if found else {}


class WorkerReporter(QuietReporter):
    """As `QuietReporter`, and its innermost phase stands in a file, for `workers_say`."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._file, self._clock, self._open, self._last = file, clock, 0, -math.inf

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, *, done: int = 0) -> Iterator[Phase]:
        """A phase that another process may look at."""
        self._open += 1
        try:
            with _innermost(_Said(name, total, unit, done, self._write)) as phase:
                yield phase
        finally:
            self._open -= 1
            if self._open == 0:
                with contextlib.suppress(OSError):
                    self._file.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        now = self._clock()
        if now - self._last < BEAT_SECONDS:
            return
        self._last = now
        whole = self._file.with_name(f".{self._file.name}")
        with contextlib.suppress(OSError):  # nobody waits for it
            whole.write_text(printable(one_line(text)))
            whole.replace(self._file)


class _Said:
    def __init__(
        self, name: str, total: int | None, unit: str, done: int, say: Callable[[str], None]
    ) -> None:
        self._name, self._of, self._unit = name, "" if total is None else f"/{total}", unit
        self._done, self._say = done, say

    def advance(self, n: int = 1, **info: Any) -> None:
        """Count, and say so."""
        self._done += n
        tail = f" · {shown(info)}" if info else ""
        self._say(f"{self._name} {self._done}{self._of} {self._unit}{tail}")


class PlainReporter:
    """Plain lines, at most one every few seconds for a phase, and one when it ends."""

    def __init__(
        self,
        out: TextIO | None = None,
        every: float = PLAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out, self._every, self._clock = out, every, clock

    def _line(self, text: str) -> None:
        print(printable(text), file=self._out or sys.stderr, flush=True)

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, *, done: int = 0) -> Iterator[Phase]:
        """Lines such as ``train 30/100 steps · 2.1 steps/s · 33 s left · loss=0.4``."""
        counter = _Lines(name, total, unit, self._line, self._every, self._clock, done)
        with _innermost(counter):
            yield counter
        counter.end()

    def note(self, text: str) -> None:
        """Print the line."""
        self._line(text)

    def warn(self, text: str) -> None:
        """Print the line, marked."""
        self._line(f"warning: {text}")


class _Lines:
    def __init__(
        self,
        name: str,
        total: int | None,
        unit: str,
        line: Callable[[str], None],
        every: float,
        clock: Callable[[], float],
        done: int,
    ) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._line, self._every, self._clock = line, every, clock
        self._done, self._info = done, {}  # type: int, dict[str, Any]
        self._before = done
        self._start = self._last = clock()

    def advance(self, n: int = 1, **info: Any) -> None:
        """Count, and print a line if the last one is old enough."""
        self._done += n
        self._info = info or self._info
        now = self._clock()
        if now - self._last >= self._every:
            self._last = now
            self._line(self._text(now))

    def end(self) -> None:
        """The phase's last line."""
        took = duration(self._clock() - self._start)
        last = {key: value for key, value in self._info.items() if key != NOW}
        tail = f" · {shown(last)}" if last else ""
        counted = f"{self._done} {self._unit} in " if self._done or self._total is not None else ""
        self._line(f"{self._name}: {counted}{took}{tail}")

    def _text(self, now: float) -> str:
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        parts = [f"{self._name} {self._done}"]
        if self._total is not None:
            parts[0] += f"/{self._total}"
        parts[0] += f" {self._unit}"
        if rate > 0:
            parts.append(f"{rate:.3g} {self._unit}/s")
        if self._total is not None and rate > 0:
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        if self._info:
            parts.append(shown(self._info))
        return " · ".join(parts)


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "")
        return Text("" if speed is None else f"{speed:.3g} {unit}/s", style="dim")


class RichReporter:
    """Progress bars with rate and time left; phases may nest."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._open = 0

    @contextmanager
    def phase(self, name: str, total: int | None, unit: str, *, done: int = 0) -> Iterator[Phase]:
        """A bar that vanishes when the phase ends; one live display holds nested phases."""
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[info]}", style="dim"),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        progress = self._progress
        bar = progress.add_task(one_line(name), total=total, completed=done, unit=unit, info="")
        self._open += 1
        try:
            with _innermost(_Bar(progress, bar)) as phase:
                yield phase
        finally:
            progress.remove_task(bar)
            self._open -= 1
            if self._open == 0:
                progress.stop()
                self._progress = None

    def note(self, text: str) -> None:
        """Print the line above the bars."""
        self._console.print(printable(text), markup=False, highlight=False)

    def warn(self, text: str) -> None:
        """Print the line above the bars, marked."""
        warning = printable(f"warning: {text}")
        self._console.print(warning, style="yellow", markup=False, highlight=False)


class _Bar:
    def __init__(self, progress: Progress, bar: Any) -> None:
        self._progress, self._bar = progress, bar

    def advance(self, n: int = 1, **info: Any) -> None:
        """Move the bar and show ``info`` beside it."""
        if info:
            self._progress.update(self._bar, info=shown(info))
        if n:
            self._progress.advance(self._bar, n)


def reporter(stream: TextIO | None = None) -> Reporter:
    """Bars if ``stream`` (default: standard error) is a terminal, plain lines if not."""
    if (stream or sys.stderr).isatty():
        return RichReporter()
    return PlainReporter(stream)
