"""`opcd-bench settings`: every setting of a suite, with type, default and what it is."""

from __future__ import annotations

from typing import Annotated

import typer

from opcd_bench.cli import settings
from opcd_bench.cli.output import Json, print_json, text_table
from opcd_bench.config.described import Described, described
from opcd_bench.config.experience import Experience
from opcd_bench.config.suite import Suite
from opcd_bench.errors import UnknownName


def listed_settings(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]…", help="Only these, with all that is said of each."),
    ] = None,
    json: Json = False,
) -> None:
    """List the settings of a suite: type, default, what it is.

    All of them stand in a suite's TOML file, or on the command line as --set KEY=VALUE.
    """
    known = {one.name: one for one in every_setting()}
    for name in names or ():
        if name not in known:
            raise UnknownName("setting", name, known, settings.ALL)
    shown = [known[name] for name in names or known]
    if json:
        print_json({"settings": [one._asdict() for one in shown]})
    elif names:
        print("\n\n".join(map(_whole, shown)))
    else:
        rows = [[one.name, one.type, one.default, one.help] for one in shown]
        print(text_table(["setting", "type", "default", "what it is"], rows))


def every_setting() -> list[Described]:
    """The settings of a suite, those of its table ``experience`` as ``experience.KEY``."""
    inner = [one._replace(name=f"experience.{one.name}") for one in described(Experience)]
    return [*described(Suite), *inner]


def _whole(one: Described) -> str:
    """A setting by itself, with where it is typed."""
    table, dot, key = one.name.rpartition(".")
    typed = f"--set '{table}={{{key} = …}}'" if dot else f"--set {one.name}=…"
    if one.name in settings.OPTIONS:
        typed = f"--{one.name.replace('_', '-')} …, or {typed}"
    where = f"under [{table}]: {key} = …" if dot else f"{one.name} = …"
    lines = [f"{one.name}: {one.type}; default: {one.default}", one.help]
    lines += [f"On the command line: {typed}", f"In a suite's TOML file, {where}"]
    if one.kind is not None:
        lines.append(f"Class: {CLASSES[one.kind]}")
    return "\n".join(lines)


CLASSES = {
    "identity": "identity (numbers depend on it: a run with another value is another run)",
    "runtime": "runtime (it changes where, how fast or with what output a run happens)",
}
