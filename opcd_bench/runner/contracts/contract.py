"""One thing that every contributed file keeps, and how it went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


HEAVY = ("torch", "transformers", "textarena", "lm_eval", "datasets")
"""Never imported by a plugin at module level: listings must not load them."""


class ContractBroken(AssertionError):
    """A plugin does not keep its contract; the message says how, with values."""


@dataclass(frozen=True)
class Contract(Generic[T]):
    """One thing that every plugin of a kind keeps.

    ``test`` returns a detail worth showing ("" for none), or raises ContractBroken.
    """

    says: str
    test: Callable[[T], str]


@dataclass(frozen=True)
class Result:
    """How one contract went for one plugin."""

    says: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Begun:
    """A contract that is being tested from now on."""

    says: str


def steps(contracts: Sequence[Contract[T]], plugin: T) -> Iterator[Begun | Result]:
    """Test every contract; whatever a plugin raises is a failed line, never the end."""
    for contract in contracts:
        yield Begun(contract.says)
        try:
            yield Result(contract.says, True, contract.test(plugin))
        except ContractBroken as broken:
            yield Result(contract.says, False, str(broken))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit and the like too
            yield Result(contract.says, False, f"{type(error).__name__}: {error}")


def results(contracts: Sequence[Contract[T]], plugin: T) -> Iterator[Result]:
    """The results of `steps`."""
    return (step for step in steps(contracts, plugin) if isinstance(step, Result))
