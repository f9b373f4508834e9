"""`opcd-bench new`: a scaffold of a method or a task that passes `check` as it is."""

from __future__ import annotations

import keyword
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.errors import PluginError
from opcd_bench.runner import registry

app = typer.Typer(help="Write the scaffold of a contributed file.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name: lower-case letters, digits, underscores.")]

METHOD = '''"""What {name} changes, in one sentence."""

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import STUDENT, Method, Teacher

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

from opcd_bench.envs.task import Ceiling, Context, Episode, Example, Floor, Grade, Task, Turn

RANGES = {{"train": range(0, 60), "dev": range(60, 80), "test": range(80, 100)}}


class Reply(Episode):
    """One question, one reply."""

    def __init__(self, example):
        question = f"What is the code of {{example.content['number']}}?"
        self.messages = ({{"role": "user", "content": question}},)
        self.right, self.reply = example.reference, None

    def step(self, reply):
        """Take the reply; the episode is over."""
        self.reply = reply.strip()
        return Turn(tuple(self.messages), done=True)

    def grade(self):
        """1 for the right code, 0 for another, None where there is none to read."""
        if self.reply is None:
            return Grade(0.0, None, "no reply")
        if not self.reply.isdigit():
            return Grade(None, None, "the reply is no number")
        return Grade(float(self.reply == self.right), self.reply, f"the code is {{self.right}}")


class {classname}(Task):
    """The code of a number is told in the context alone."""

    name, version, summary = "{name}", 1, "What it asks, in one line."

    def context(self):
        """What the teacher is told."""
        return Context("The code of a number is the number plus seven.")

    def examples(self, split):
        """Numbers, each in one split."""
        return [Example({{"number": n}}, reference=str(n + 7)) for n in RANGES[split]]

    def open(self, example, seed):
        """Nothing is left to chance."""
        return Reply(example)

    def floors(self, split):
        """The best constant answer is right once."""
        return [Floor("constant", 1 / len(RANGES[split]), "one code fits one number")]

    def ceiling(self, split):
        """Every item can be solved."""
        return Ceiling(1.0, "by construction")


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


def _write(name: str, kind: str, package: str, folder: str, text: str) -> None:
    usable = name.isidentifier() and not keyword.iskeyword(name)
    if not usable or name != name.lower() or name.startswith("_"):
        raise PluginError(
            f"{name!r} cannot name a {kind}: use lower-case letters, digits and underscores, a "
            f"letter first; for example: opcd-bench new {kind} my_{kind}"
        )
    taken = registry.plugin_files(package).get(name)
    if taken is not None:
        raise PluginError(f"{kind} {name!r} exists: {taken}; choose another name")
    root = checkout(Path.cwd().resolve())
    file = (root / folder if root is not None else Path.cwd()) / f"{name}.py"
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise PluginError(f"{file} exists; choose another name, or remove it") from None
    except OSError as error:
        raise PluginError(f"{file}: cannot be written: {error.strerror}") from None
    print(f"wrote {file}")
    if root is None:
        print(
            f"This folder is no source checkout of opcd-bench: when the file is ready, put it into "
            f"{folder}/ of one (git clone, make quickstart), and it is listed."
        )
    runs = f"--methods opcd,{name} --tasks rule_math"
    if kind == "task":
        runs = f"--methods opcd,sft_context --tasks {name}"
    print(f"next: edit it; opcd-bench check {file}; opcd-bench run {runs}")
