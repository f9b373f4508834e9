"""`opcd-bench new`: a scaffold that passes its check, where it goes, and what is printed next."""

import ast
import shlex
import types

import opcd_bench.baselines
import pytest

from opcd_bench.envs.question import QuestionEpisode
from opcd_bench.envs.task import Example
from opcd_bench.runner import registry


def next_commands(told):
    """The commands that `new` prints, as words without the program."""
    return [
        shlex.split(line)[1:] for line in told.out.splitlines() if line.startswith("  opcd-bench ")
    ]


@pytest.mark.parametrize("kind", ["method", "task"])
def test_a_scaffold_passes_its_check_as_it_is(opcd, tmp_path, kind):
    told = opcd("new", kind, "mine")
    assert told.code == 0
    assert f"wrote {tmp_path / 'mine.py'}" in told.out
    checked = opcd("check", "mine.py")
    assert checked.code == 0, checked.out
    assert "FAIL" not in checked.out
    if kind == "method":
        assert len((tmp_path / "mine.py").read_text().splitlines()) <= 20


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("method", ["run", "--methods", "opcd,./mine.py", "--tasks", "rule_math"]),
        ("task", ["run", "--methods", "opcd,sft_context", "--tasks", "./mine.py"]),
    ],
)
def test_without_a_checkout_the_printed_commands_work_as_printed(opcd, kind, run):
    check, printed = next_commands(opcd("new", kind, "mine"))
    assert check == ["check", "./mine.py"]
    assert printed == run
    assert opcd(*check).code == 0
    planned = opcd(*printed, "--dry-run")
    assert planned.code == 0, planned.err
    assert "mine--" in planned.out and "2 cells" in planned.out


def checkout(tmp_path, monkeypatch, *, registered):
    """Make the working folder a source checkout; ``registered``: the one that is installed."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "opcd-bench"\n')
    (tmp_path / "baselines").mkdir()
    if registered:
        paths = [*opcd_bench.baselines.__path__, str(tmp_path / "baselines")]
        monkeypatch.setattr(opcd_bench.baselines, "__path__", paths)


def test_a_scaffold_goes_into_the_folder_of_a_source_checkout(opcd, tmp_path, monkeypatch):
    checkout(tmp_path, monkeypatch, registered=True)
    told = opcd("new", "method", "mine")
    assert (tmp_path / "baselines" / "mine.py").is_file()
    check, run = next_commands(told)
    assert opcd(*check).code == 0
    assert run == ["run", "--methods", "opcd,mine", "--tasks", "rule_math"]
    assert opcd(*run, "--dry-run").code == 0


def test_in_a_clone_that_is_not_the_installed_one_it_goes_into_the_working_folder(
    opcd, tmp_path, monkeypatch
):
    checkout(tmp_path, monkeypatch, registered=False)
    told = opcd("new", "method", "mine")
    assert (tmp_path / "mine.py").is_file() and not list((tmp_path / "baselines").iterdir())
    assert "--methods opcd,./mine.py" in told.out


def test_a_scaffold_overwrites_nothing(opcd, tmp_path):
    (tmp_path / "mine.py").write_text("precious\n")
    told = opcd("new", "method", "mine")
    assert told.code == 2 and "exists" in told.err
    assert (tmp_path / "mine.py").read_text() == "precious\n"


@pytest.mark.parametrize("kind", ["method", "task"])
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Mine", "use lower-case letters a to z"),
        ("my-way", "use lower-case letters a to z"),
        ("_mine", "a letter first"),
        ("2nd", "a letter first"),
        ("./mine.py", "for example: opcd-bench new"),
        ("\ufb01", "use lower-case letters a to z"),
        ("caf\u00e9", "use lower-case letters a to z"),
        ("class", "the word has a meaning"),
        ("match", "the word has a meaning"),
        ("none", "the word has a meaning"),
        ("json", "a module of Python's standard library, and a file json.py would hide it"),
        ("registry", "a module of opcd_bench already"),
        ("losses", "a module of opcd_bench already"),
        ("torch", "an installed package"),
    ],
)
def test_a_scaffold_with_an_unusable_name_is_refused_with_the_reason(
    opcd, tmp_path, kind, name, told
):
    answer = opcd("new", kind, name)
    assert answer.code == 2 and "Traceback" not in answer.err
    assert told in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), [("method", "opcd"), ("task", "rule_math")])
def test_the_name_of_a_plugin_that_exists_is_refused(opcd, tmp_path, kind, name):
    answer = opcd("new", kind, name)
    assert answer.code == 2 and f"{kind} {name!r} exists" in answer.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["method", "task"])
def test_a_scaffold_imports_the_public_face_or_the_environments_alone(opcd, tmp_path, kind):
    opcd("new", kind, "mine")
    tree = ast.parse((tmp_path / "mine.py").read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    allowed = ("opcd_bench",) if kind == "method" else ("opcd_bench", "opcd_bench.envs")
    assert modules
    for module in modules:
        assert module == "opcd_bench" or module.startswith(f"{allowed[-1]}."), module


def test_the_task_of_a_scaffold_never_grades_what_is_thought(opcd):
    opcd("new", "task", "mine")
    task = registry.task("./mine.py")
    episode = task.open(Example({"number": 90}, reference="97"), 0)
    assert isinstance(episode, QuestionEpisode)
    grades = types.SimpleNamespace()
    for name, reply in (
        ("right", "97"),
        ("thought", "<think>97</think>"),
        ("both", "<think>12</think>\n\n97"),
        ("wrong", "<think>97</think> 12"),
    ):
        episode = task.open(Example({"number": 90}, reference="97"), 0)
        episode.step(reply)
        setattr(grades, name, episode.grade().score)
    assert (grades.right, grades.thought, grades.both, grades.wrong) == (1.0, None, 1.0, 0.0)
