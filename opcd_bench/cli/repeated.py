"""Options that are typed twice and take one value: refused, since the first would be lost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from opcd_bench.errors import ConfigError

PAIRS = "KEY=VALUE"
"""How the help writes the value of an option whose values are keys of their own."""

OTHERWISE = {"entrants": "entrant", "cluster_options": "cluster_set"}
"""Settings whose option's parameter has another name."""


def refuse(group: Any, words: Sequence[str]) -> None:
    """Raise ConfigError for an option, or a key of ``--set``, that a command line gives twice.

    ``group``: the command that the words follow. Options that are declared repeatable may be
    given often, each key of their ``KEY=VALUE`` once, and no key that is given as an option too.
    """
    command, rest = group, list(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    given: dict[str, list[tuple[str, str]]] = {}
    for option, name, value in _typed(command, rest):
        given.setdefault(option.name, []).append((name, value))
    for option in command.params:
        found = given.get(option.name, [])
        if option.param_type_name == "option" and not option.multiple and len(found) > 1:
            _refuse(option, found)
        if option.metavar == PAIRS:
            _refuse_keys(found)
    for name, text in given.get("assignments", ()):
        key = _key(text)
        for option, _ in given.get(OTHERWISE.get(key, key), ()):
            raise ConfigError(f"{key} is given as {option} and as {name} {key}; give one of them")


def _typed(command: Any, words: Sequence[str]) -> Iterator[tuple[Any, str, str]]:
    """Every option of the words with the name and the value that it was given; a flag has none."""
    options = {
        name: one
        for one in command.params
        if one.param_type_name == "option"
        for name in (*one.opts, *one.secondary_opts)
    }
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        name, equals, value = word.partition("=")
        if (option := options.get(name)) is not None:
            yield option, name, value if equals or option.is_flag else next(rest, "")


def _refuse(option: Any, given: Sequence[tuple[str, str]]) -> NoReturn:
    names = list(dict.fromkeys(name for name, _ in given))
    said = f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} given"
    if len(names) == 1:
        said += " twice" if len(given) == 2 else f" {len(given)} times"
    values = [value for _, value in given]
    if option.is_flag:
        raise ConfigError(f"{said}; give one, once")
    if "," in (option.metavar or "") and "none" not in values:
        raise ConfigError(f"{said}; write {names[0]} {shlex.quote(','.join(values))}")
    raise ConfigError(f"{said} ({', '.join(values)}); give one")


def _refuse_keys(given: Sequence[tuple[str, str]]) -> None:
    """Raise ConfigError where two of ``key=value`` texts have one key."""
    values: dict[str, list[str]] = {}
    for option, text in given:
        values.setdefault(_key(text), []).append(text.partition("=")[2].strip())
        if len(twice := values[_key(text)]) > 1:
            raise ConfigError(
                f"{option} {_key(text)} is given twice ({', '.join(twice)}); give one"
            )


def _key(assignment: str) -> str:
    return assignment.partition("=")[0].strip()
