"""A suite as a TOML file: its own settings, and the sizes that put others over them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opcd_bench.config import words
from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.errors import ConfigError, UnknownName
from opcd_bench.store import user_files
from opcd_bench.store.names import checked_name

SIZES = "sizes"
"""The table of sizes: ``[sizes.smoke]`` holds settings as the suite itself does."""


@dataclass(frozen=True)
class SuiteFile:
    """What a suite's file says: ``values`` as written, and ``sizes`` by name."""

    path: Path
    values: Mapping[str, Any]
    sizes: Mapping[str, Mapping[str, Any]]

    def suite(self, size: str | None = None, overrides: Mapping[str, Any] | None = None) -> Suite:
        """The suite as written, or in one of its sizes; ``overrides`` go over both.

        A setting of a size takes the place of the suite's whole value, tables too. Its runs lie in
        a folder of their own, ``<suite>-<size>``. Relative paths of methods and tasks begin in the
        file's folder. Raises UnknownName for a size that there is not, ConfigError for one of a
        suite without any, or for settings that cannot be used.
        """
        named = "name" in {**self.values, **(overrides or {})}
        values = {"name": self.path.stem if named else self._own_name, **self.values}
        where = str(self.path)
        if size is not None:
            values |= {**self._size(size), "name": f"{values['name']}-{size}"}
            where = f"{where}, size {size!r}"
        for key in {"methods", "tasks"} & set(values):
            values[key] = words.relative_to(self.path.parent, values[key])
        values |= self._foreign(size)
        if overrides:
            values |= overrides
            where = f"{where} with the command line's settings"
        return make_suite(values, where)

    @property
    def _own_name(self) -> str:
        """The file's name, without its ending; ConfigError where it cannot name a folder."""
        stem = self.path.stem
        try:
            return checked_name(stem)
        except ValueError as error:
            usable = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_") or "mine"
            raise ConfigError(
                f"{self.path}: a suite without a name is called as its file, and {error}. Rename "
                f'the file, or write name = "{usable}" into it'
            ) from None

    def _foreign(self, used: str | None) -> dict[str, Any]:
        """What no setting is called so, in the sizes that are not ``used``, by its whole key.

        Among a suite's own values it is refused with them.
        """
        return {
            f"{SIZES}.{size}.{key}": value
            for size, own in self.sizes.items()
            for key, value in own.items()
            if size != used and key not in Suite.model_fields
        }

    def _size(self, size: str) -> Mapping[str, Any]:
        if not self.sizes:
            raise ConfigError(
                f"suite {self.path.stem!r} has no sizes; leave out --size {size} (opcd-bench "
                "suites shows which suites have sizes)"
            )
        if size not in self.sizes:
            raise UnknownName(
                "size",
                size,
                self.sizes,
                "Without --size, the suite runs as written.",
                where=f"of suite {self.path.stem!r}",
            )
        return self.sizes[size]


def read(path: Path) -> SuiteFile:
    """The suite in a TOML file; ConfigError where it is no UTF-8, no TOML, or its sizes no tables.

    Settings are not looked at before `SuiteFile.suite` makes one of them.
    """
    values = _toml(path)
    sizes = values.pop(SIZES, {})
    if not isinstance(sizes, dict) or not all(isinstance(one, dict) for one in sizes.values()):
        raise ConfigError(f"{path}: {SIZES} must hold one table per size: write [{SIZES}.smoke]")
    for size, own in sizes.items():
        if "name" in own:
            raise ConfigError(
                f"{path}: {SIZES}.{size}.name: a size cannot have a name; its folder is that of "
                f"the suite with -{size} added. Leave it out"
            )
    return SuiteFile(path, values, sizes)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return user_files.toml_of(user_files.text_of(path))
    except user_files.Unusable as error:
        raise ConfigError(f"{user_files.shown(path)}: {error}") from None
