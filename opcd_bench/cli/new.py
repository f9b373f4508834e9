"""`opcd-bench new`: a scaffold of a method or a task that passes `check` as it is."""

from __future__ import annotations

import importlib
import importlib.util
import keyword
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.errors import PluginError
from opcd_bench.runner import registry
from opcd_bench.runner.registry import Kind

app = typer.Typer(help="Write the scaffold of a contributed file.", no_args_is_help=True)

RESERVED = ("all", "auto", "false", "none", "true")
"""Words that mean something on the command line or in a suite."""

Name = Annotated[str, typer.Argument(help="Its name: lower-case letters, digits, underscores.")]

METHOD = '''"""What {name} changes, in one sentence."""

from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="{name}",
    summary="What it changes, in one line.",
    source="your name, or an arXiv id",
    writer=STUDENT,  # or TOLD_TEACHER, mixture(0.5), stored("replies.jsonl")
    loss=named("rkl_tail", support="student_top_k", k=256),
    teacher=Teacher(weights="initial", reads="context"),
)
'''

TASK = '''"""What {name} asks, in one sentence."""

from opcd_bench import Context, DataTask, Example, Grade

NUMBERS = {{"train": range(0, 60), "dev": range(60, 80), "test": range(80, 100)}}


class {classname}(DataTask):
    """The code of a number is told in the context alone."""

    name, version, summary = "{name}", 1, "What it asks, in one line."

    def context(self):
        """What the teacher is told and the student is not."""
        return Context("The code of a number is the number plus seven.")

    @classmethod
    def load(cls, data_dir):
        """The examples of each split: numbers, each in one split alone."""
        return {{
            split: [Example({{"number": number}}, reference=str(number + 7)) for number in numbers]
            for split, numbers in NUMBERS.items()
        }}

    def question(self, example):
        """The user's message."""
        return f"What is the code of {{example.content['number']}}? Answer with a number."

    def graded(self, example, reply):
        """1 for the right code, 0 for another, None where there is none to read.

        ``reply`` comes without what was thought in it.
        """
        answer = reply.strip()
        if not answer.isdigit():
            return Grade(None, None, "the response is no number")
        right = answer == example.reference
        return Grade(float(right), answer, f"the code is {{example.reference}}")


TASK = {classname}
'''


@app.command("method")
def method(name: Name) -> None:
    """A method in one file: baselines/NAME.py of a source checkout, or ./NAME.py."""
    _write(name, "method", registry.METHODS_PACKAGE, "baselines", METHOD.format(name=name))


@app.command("task")
def task(name: Name) -> None:
    """A task in one file: tasks/NAME.py of a source checkout, or ./NAME.py."""
    classname = "".join(part.capitalize() for part in name.split("_")) + "Task"
    text = TASK.format(name=name, classname=classname)
    _write(name, "task", registry.TASKS_PACKAGE, "tasks", text)


def checkout(start: Path) -> Path | None:
    """The source checkout of opcd-bench that holds ``start``, if there is one."""
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
            return folder if project.get("name") == "opcd-bench" else None
    return None


def _write(name: str, kind: Kind, package: str, folder: str, text: str) -> None:
    _refuse_unusable(name, kind)
    root = checkout(Path.cwd().resolve())
    own = root / folder if root is not None else None
    registered = own is not None and _is_registry(own, package)
    file = own / f"{name}.py" if own is not None and registered else Path(f"{name}.py")
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise PluginError(f"{file} exists; choose another name, or remove it") from None
    except OSError as error:
        raise PluginError(f"{file}: cannot be written: {error.strerror}") from None
    shown = str(file) if registered else f"./{file}"
    word = name if registered else shown
    print(f"wrote {file.resolve()}")
    print(f"Edit it, then:\n  opcd-bench check {shlex.quote(shown)}")
    if kind == "task":
        print(f"  opcd-bench run --methods opcd,sft_context --tasks {word}")
    else:
        print(f"  opcd-bench run --methods opcd,{word} --tasks rule_math")


def _is_registry(folder: Path, package: str) -> bool:
    """Whether a checkout's folder is the one that this opcd-bench reads its plugins from."""
    read = importlib.import_module(package).__path__
    return folder.is_dir() and folder.resolve() in {Path(path).resolve() for path in read}


def _refuse_unusable(name: str, kind: Kind) -> None:
    """Raise PluginError for a name that a file must not have, with the reason."""
    example = f"for example: opcd-bench new {kind} my_{kind}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise PluginError(
            f"{name!r} cannot name a {kind}: use lower-case letters a to z, digits and "
            f"underscores, a letter first; {example}"
        )
    if name in RESERVED or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise PluginError(f"{name!r} cannot name a {kind}: the word has a meaning; {example}")
    if name in registry.known(kind):
        raise PluginError(f"{kind} {name!r} exists; choose another name (list: opcd-bench {kind}s)")
    if why := _module_called(name):
        raise PluginError(f"{name!r} cannot name a {kind}: {why}; {example}")


def _module_called(name: str) -> str | None:
    """Why a name is a module's already: Python's, ours or an installed package's; None if free."""
    hides = f"and a file {name}.py would hide it"
    if name in sys.stdlib_module_names:
        return f"it is a module of Python's standard library, {hides}"
    package = Path(str(sys.modules["opcd_bench"].__file__)).parent
    ours = {file.stem for file in package.rglob("*.py")}
    ours |= {file.parent.name for file in package.rglob("__init__.py")}
    if name in ours:
        return "it is a module of opcd_bench already"
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None or Path(spec.origin).parent == Path.cwd():
        return None
    return f"it is an installed package ({spec.origin}), {hides}"
