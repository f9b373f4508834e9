"""Write the settings and the command reference while the documentation is built.

A hook of mkdocs (`hooks:` in mkdocs.yml): both pages are read from the code, so neither can be out
of date. Nothing is written into docs/.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from rich.text import Text

from opcd_bench.cli.main import app
from opcd_bench.config.described import described
from opcd_bench.config.experience import Experience
from opcd_bench.config.suite import Suite

SETTINGS = "reference/settings.md"
COMMANDS = "reference/commands.md"

SETTINGS_HEAD = """\
# Settings

Every setting of a suite: in a TOML file, or on the command line as `--set key=value`. The common
ones also have an option of their own (`--max-steps 50`); see the
[commands](commands.md#opcd-bench-run).

**Class** says what a setting does to a run. *Identity*: numbers depend on it, so it is part of the
run's hash, and a run with another value is another run. *Runtime*: it changes where, how fast or
with what output a run happens, and no number.
"""
EXPERIENCE_HEAD = """
## The table `[experience]`

How a round makes its context. The names are those of the options of `opcd-bench extract` and
`opcd-bench select`. The table is part of the run's identity. See [Rounds](../guides/rounds.md).
"""
COMMANDS_HEAD = """\
# Commands

Every command takes `--help`. Listings take `--json`. Exit codes: 0 done; 1 something failed (a
cell, a contract, a checksum); 2 the input cannot be used, and the message says why; 130 ctrl-C,
143 ended by SIGTERM.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add both pages to the site."""
    for path, text in ((SETTINGS, settings_page()), (COMMANDS, commands_page())):
        files.append(File.generated(config, path, content=text))
    return files


def settings_page() -> str:
    """Every setting of a suite, from the fields of `Suite` and of its `[experience]` table."""
    settings, experience = _table(Suite, classed=True), _table(Experience, classed=False)
    return "\n".join([SETTINGS_HEAD, *settings, EXPERIENCE_HEAD, *experience, ""])


def _table(model: type[BaseModel], *, classed: bool) -> Iterator[str]:
    """One row a field: name, type, default, class, description."""
    head = ["setting", "type", "default", *(["class"] if classed else []), "what it is"]
    yield _row(head)
    yield _row(["---"] * len(head))
    for one in described(model):
        yield _row(
            [
                f"`{one.name}`{{ #{one.name} }}" if classed else f"`{one.name}`",
                f"`{one.type}`",
                one.default if one.default in ("none", "(required)") else f"`{one.default}`",
                *([str(one.kind)] if classed else []),
                _escaped(one.help),
            ]
        )


def _row(cells: list[str]) -> str:
    """A row of a Markdown table; a pipe between backticks is no border."""
    return f"| {' | '.join(cells)} |"


def commands_page() -> str:
    """Every subcommand with its arguments and options, as `--help` has them."""
    lines = [COMMANDS_HEAD]
    for words, command in _commands(typer.main.get_command(app), ("opcd-bench",)):
        lines += _section(words, command)
    return "\n".join(lines)


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, depth first, in the order of `--help`."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name, one in inner.items():
        yield from _commands(one, (*words, name))


def _section(words: tuple[str, ...], command: Any) -> list[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join([*words, *(_argument(one) for one in arguments), "[OPTIONS]"])
    lines = [f"## {' '.join(words)}", "", _escaped(inspect.cleandoc(command.help or "")), ""]
    lines += ["```text", usage, "```", ""]
    rows = [(f"`{_argument(one)}`", one) for one in arguments]
    rows += [(_option(one), one) for one in options if not one.hidden]
    if rows:
        lines += [_row(["argument or option", "default", "what it is"]), _row(["---"] * 3)]
        lines += [
            _row([said, _said_default(one), _escaped(Text.from_markup(one.help or "").plain)])
            for said, one in rows
        ]
        lines.append("")
    return lines


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name = f"{name}…" if argument.nargs == -1 and not name.endswith("…") else name
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    """Its names, and what it takes."""
    said = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    return said if option.is_flag else f"{said} `{option.metavar or _takes(option)}`"


def _takes(option: Any) -> str:
    """What an option takes where nothing says it: INT, FLOAT, PATH or TEXT."""
    descriptor = getattr(option, "type_descriptor", None)  # typer before 0.29: click's own `type`
    kind = option.type.name if descriptor is None else descriptor.annotation.__name__
    return {"str": "TEXT", "integer": "INT"}.get(kind, kind.upper())


def _said_default(option: Any) -> str:
    value = option.default
    if option.required:
        return "(required)"
    if option.param_type_name == "option" and option.is_flag:
        return f"`{option.opts[0]}`" if value is True else ""
    return "" if value is None or callable(value) else f"`{value}`"


def _escaped(text: str) -> str:
    """Text of the code as Markdown: ``x`` as `x`, and nothing that only looks like mark-up."""
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part if part.startswith("`") else re.sub(r"([*_<|\[\]])", r"\\\1", part) for part in parts
    )
