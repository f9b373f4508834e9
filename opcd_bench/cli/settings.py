"""From the words of a command line to a Suite."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from opcd_bench.config import words as plugin_words
from opcd_bench.config.experience import Experience
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError, UnknownName
from opcd_bench.runner import registry, requested
from opcd_bench.runner.requested import SHARED_SETTINGS
from opcd_bench.store import user_files

OPTIONS = (
    "methods", "tasks", "seeds", "learning_rate", "max_steps", "batch_size", "model",
    "teacher_model", "output_dir", "name", "device", "processes", "engine", "vllm_url",
    "teacher_url", "jobs", "cluster", "history", "retention", "rounds", "data_dir", "model_dir",
    "report_to",
)  # fmt: skip
"""The settings of a suite that `run` has as options of their own; all others: ``--set``."""

OWN = ("context", "interpolate", "cluster_options")
"""Settings that are options of `run` and are not typed there as they are in a suite."""

ALL = "What each is: opcd-bench settings"

Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as `run` takes it (repeatable)."),
]


def make(
    suite: str | None,
    words: Mapping[str, Any],
    assignments: Sequence[str] | None = None,
    *,
    size: str | None = None,
) -> Suite:
    """The suite that a command line asks for, in the size that it asks for.

    ``words``: option -> value, None where it was not given; ``assignments``: ``key=value`` texts.
    Which folder its runs go to: `requested.suite`. Raises ConfigError or UnknownName,
    and what `registry.settled` raises.
    """
    given = {key: value for key, value in words.items() if value is not None}
    given = {**given, **assigned(assignments or ())}
    for key in ("methods", "tasks", "retention", "context"):
        if given.get(key) == ["none"]:  # a repeatable option gives a list
            given[key] = "none"
        if isinstance(given.get(key), str):
            given[key] = names(given[key], key)
    if isinstance(given.get("learning_rate"), str):
        given["learning_rate"] = rates(given["learning_rate"])
    if isinstance(given.get("interpolate"), str):
        given["interpolate"] = shares(given["interpolate"])
    if asked := given.pop("cluster_set", None):
        given["cluster_options"] = cluster_options(asked)
    if entered := given.pop("entrant", None):  # the option; the setting is a table
        given["entrants"] = entrants(entered)
    if suite is None and not ({"methods", "tasks"} & set(given)):
        raise ConfigError(
            f"nothing to run; name a suite (--suite {SHARED_SETTINGS}; list: opcd-bench suites) or "
            "methods and tasks (--methods opcd,sft_context --tasks rule_math)"
        )
    if suite is None and size is not None:
        raise ConfigError(f"--size {size} is a suite's; name the suite too (--suite NAME)")
    base = registry.suite(suite or SHARED_SETTINGS, size=size)
    if own := given.get("cluster_options"):
        kept = base.cluster_options.model_dump(exclude_defaults=True)
        given["cluster_options"] = {**kept, **own}
    where = "command line" if suite is None else f"{suite} with the command line's settings"
    return requested.suite(base, given, where, custom=suite is None)


def names(text: str, key: str = "") -> list[str]:
    """``a,b[k=4,beta=0.5]`` as a list of two; ``none`` as an empty one.

    Raises ConfigError for brackets without a partner; ``key``: the setting, for its message.
    """
    try:
        return [] if text == "none" else plugin_words.split(text)
    except ValueError as error:
        said = f"{error}"
        if key in ("retention", "context"):  # whose names have no parameters
            said = f"{text!r}: a bracket has no partner; write --set {key}=a,b"
        raise ConfigError(f"command line: {f'{key}: ' if key else ''}{said}") from None


def rates(text: str) -> list[float]:
    """``1e-4,1e-3`` as numbers; ConfigError names the one that is none."""
    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            raise ConfigError(
                f"command line: learning_rate: {part.strip()!r} is no number; "
                "write --learning-rate 1e-4 or --learning-rate 1e-4,1e-3"
            ) from None
    return found


def entrants(texts: Sequence[str]) -> dict[str, str]:
    """``name=folder`` texts by name; ConfigError for one that is none, or a name given twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, source = (part.strip() for part in text.partition("="))
        if not (name and equals and source):
            raise ConfigError(
                f"command line: --entrant {text!r}: write --entrant NAME=FOLDER_OR_ID"
            )
        if name in found:
            raise ConfigError(f"command line: --entrant {name} is given twice; name each once")
        found[name] = source
    return found


def shares(text: str) -> list[float]:
    """``0.25,0.5`` as numbers; ConfigError names the one that is none."""
    try:
        return [float(part) for part in text.split(",")] if text != "none" else []
    except ValueError:
        raise ConfigError(
            f"command line: --interpolate {text!r}: write shares between 0 and 1: "
            "--interpolate 0.25,0.5,0.75"
        ) from None


OF_NO_SUBCOMMAND = ("--version", "--install-completion", "--show-completion", "--help", "-h")


def refuse_early_options(words: Sequence[str]) -> None:
    """Raise ConfigError for an option that stands before the subcommand and is of none."""
    first = words[0].partition("=")[0] if words else ""
    if first.startswith("-") and not get_close_matches(first, OF_NO_SUBCOMMAND):
        raise ConfigError(
            f"No such option: {first}. Options stand after a subcommand: opcd-bench run --suite "
            "quick (subcommands: opcd-bench --help)"
        )


def instead_of_extra(words: Sequence[str], command: str, options: Sequence[str]) -> str:
    """What to type in place of a word that ``command``, with these options, does not take.

    Begins with ". ", to stand after the parser's own words; empty where those say enough.
    """
    for before, word in pairwise(words):
        if before.endswith(",") and not word.startswith("-"):
            return f". A list is one word, without spaces: {before}{word}"
    for option, key, value in zip(words, words[1:], words[2:], strict=False):
        if option in ("--set", "--cluster-set") and "=" not in key and not value.startswith("-"):
            return f". Write {option} {key}={value}"
    if "suite" in options and "tasks" in options:
        return f". {command} takes options alone: a suite is given as --suite NAME"
    return ""


def refuse_options_of_set(words: Sequence[str]) -> None:
    """Raise ConfigError for a setting of a suite that is typed as an option and is none."""
    if words[:1] not in (("run",), ("estimate",)):
        return
    for word, following in pairwise([*words[1:], "-"]):
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals and not following.startswith("-"):
            value = following
        key = name.replace("-", "_")
        known = key in (*OPTIONS, *OWN)
        if word.startswith("--") and key == "lr":
            raise ConfigError(f"No such option: --lr. Write --learning-rate {value or '1e-4'}")
        if word.startswith("--") and key in Suite.model_fields and not known:
            raise ConfigError(
                f"--{name} is no option of {words[0]}: write --set {key}={value or 'VALUE'}"
            )


def assigned(assignments: Sequence[str], model: type[BaseModel] = Suite) -> dict[str, Any]:
    """``key=value`` texts as settings of ``model``; a value is TOML, or else a bare word."""
    found: dict[str, Any] = {}
    for text in assignments:
        key, value = _pair("--set", text)
        table, dot, inside = key.partition(".")
        if dot and model is Suite and table in Suite.model_fields:
            raise ConfigError(f"command line: --set {key}: {_of_a_table(table, inside, value)}")
        if key not in model.model_fields:
            raise UnknownName("setting", key, model.model_fields, ALL if model is Suite else "")
        optional = model.model_fields[key].default is None
        found[key] = None if optional and value == "none" else _value(f"--set {key}", value)
    return found


def cluster_options(assignments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` texts of ``--cluster-set``; raises ConfigError for other shapes."""
    found: dict[str, Any] = {}
    for text in assignments:
        key, value = _pair("--cluster-set", text)
        found[key] = _value(f"--cluster-set {key}", value)
    return found


def _pair(option: str, text: str) -> tuple[str, str]:
    """``key=value`` as two; ConfigError for any other shape."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ConfigError(f"command line: {option} {text!r}: write {option} key=value")
    return key, value


def _of_a_table(table: str, key: str, value: str) -> str:
    if key in Suite.model_fields and key not in Experience.model_fields:
        return f"{key} is a setting of the suite itself: --set {key}={value}"
    bare = _value(f"--set {table}.{key}", value) == value
    table_of_one = f"{table}={{{key} = {json.dumps(value) if bare else value}}}"
    return f"a table is given whole: --set {shlex.quote(table_of_one)}"


def _value(option: str, text: str) -> Any:
    try:
        return user_files.toml_of(f"value = {text}")["value"]
    except user_files.Unusable as error:
        if "not valid" in str(error):
            return text
        raise ConfigError(f"command line: {option}: {error}") from None
