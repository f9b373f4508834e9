"""The folders of a suite's chains: each round is an ordinary suite, with its context beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opcd_bench.printable import printable
from opcd_bench.store.environment import differences
from opcd_bench.store.files import explained, write_atomic
from opcd_bench.store.jsonl import Row, object_text, read_object
from opcd_bench.store.names import checked_name
from opcd_bench.store.run_reader import DONE, RunReader
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.suite_list import SEALED, SUITE

ROUNDS, EXPERIENCE = "rounds", "experience"
"""Below a suite's folder: its chains, and the attempts and reflections that their contexts are made
of (by a hash of all that these depend on, so chains share what is the same)."""

CHAIN, FAILED = "chain.json", "FAILED.json"


class ChainDir:
    """``results/<suite>/rounds/<task>--<method>--lr<rate>--s<seed>--<hash10>/``.

    ::

        chain.json                          all that its numbers depend on
        context_1.json                      what round 1 tells (of a pool context_1.1.json …)
        round_1.json                        how it was made; there once the context is
        round_1/                            an ordinary suite of one cell: show, report, verify
        FAILED.json                         why a round ended before its cell began, if one did
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def round(self, number: int, lender: SuiteDir | None = None) -> SuiteDir:
        """The suite of a round, there or not; for ``lender`` see there."""
        return SuiteDir(self.path / f"round_{number}", lender)

    def context(self, number: int) -> Path:
        """Where a round's context lies, or will."""
        return self.path / f"context_{number}.json"

    def record(self, number: int) -> Row | None:
        """How a round's context was made; None until it is."""
        path = self.path / f"round_{number}.json"
        return read_object(path) if path.exists() else None

    def put_record(self, number: int, record: Mapping[str, Any]) -> Row:
        """Store how a round's context was made, and return it as it is stored."""
        write_atomic(self.path / f"round_{number}.json", object_text(record))
        return read_object(self.path / f"round_{number}.json")

    def describe(self, config: Mapping[str, Any]) -> None:
        """Make the folder, and say what it is."""
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / CHAIN).exists():
            write_atomic(self.path / CHAIN, object_text(config))

    def config(self) -> Row:
        """All that the chain's numbers depend on."""
        return read_object(self.path / CHAIN)

    def fail(self, number: int, reason: str, traceback: str) -> None:
        """Record why a round ended before its cell began."""
        failure = {
            "round": number,
            "reason": printable(reason),
            "traceback": printable(traceback),
        }
        write_atomic(self.path / FAILED, object_text(failure))

    def forget_failure(self) -> None:
        """A new attempt begins."""
        (self.path / FAILED).unlink(missing_ok=True)

    def failure(self) -> Row | None:
        """``{"round", "reason", "traceback"}`` of a round that ended before its cell began."""
        return read_object(self.path / FAILED) if (self.path / FAILED).exists() else None

    def rounds(self) -> list[SuiteDir]:
        """The rounds that were begun, in order."""
        found: list[SuiteDir] = []
        while (self.path / f"round_{len(found) + 1}").is_dir():
            found.append(self.round(len(found) + 1))
        return found

    def parts(self, number: int) -> list[Path]:
        """What the list of the suite seals of a round that is done: all that is made only once."""
        record = self.record(number)
        contexts = [] if record is None else [self.path / one["file"] for one in record["contexts"]]
        own = [self.path / CHAIN, self.path / f"round_{number}.json", *contexts]
        folder = self.round(number)
        sealed = [run / DONE for run in folder.runs()]
        return [*own, folder.path / SUITE, folder.path / SEALED, *sealed]

    def runs(self) -> list[Path]:
        """The run of each round that was begun, in order of the rounds."""
        found: list[Path] = []
        while (self.path / f"round_{len(found) + 1}").is_dir():
            if not (runs := self.round(len(found) + 1).runs()):
                break
            found.append(runs[0])
        return found

    @property
    def counts(self) -> bool:
        """Whether a round of it is sealed, so that it has numbers."""
        return any(RunReader(run).sealed for run in self.runs())


def chain(root: Path, name: str) -> ChainDir:
    """The folder of a chain of the suite at ``root``, there or not."""
    return ChainDir(root / ROUNDS / checked_name(name))


def chains(root: Path) -> list[ChainDir]:
    """The chains of the suite at ``root`` that were begun, by name."""
    return [ChainDir(path.parent) for path in sorted(root.glob(f"{ROUNDS}/*/{CHAIN}"))]


def compared(config: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a chain is compared with: any chain of its task, and any of its method on it."""
    task, method = str(config["task"]["name"]), str(config["method"]["name"])
    return (task,), (task, method)


def other_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What keeps two chains of a task out of one table, a line each: ``name: one -> other``.

    They are chain.json's values. Method, rate and seed may differ, a method of one name may not.
    """
    own = ["learning_rate", "seed"]
    if one["method"]["name"] != other["method"]["name"]:
        own.append("method")
    return differences(
        *(
            {key: value for key, value in config.items() if key not in own}
            for config in (one, other)
        )
    )
