"""What a user reads from the program keeps to the users' register (the glossary of the README).

The other register (reply, writer, told, plain) belongs to code, docstrings and stored keys.
tests/unit/test_docs.py holds the documentation to the same words.
"""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import typer

from opcd_bench.cli import main
from opcd_bench.config.commands import ExtractSettings, SelectSettings
from opcd_bench.config.experience import Experience
from opcd_bench.config.suite import Suite

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "opcd_bench"
GOLDEN = ROOT / "tests" / "data" / "report"
TEMPLATES = sorted((PACKAGE / "report" / "page" / "templates").glob("*.j2"))
REPORTS = [*(GOLDEN / name for name in ("index.html", "headline.md", "headline.tex")), *TEMPLATES]

WRONG = {
    "reply": r"repl(?:y|ies|ied)",
    "writer": r"writers?",
    "told": r"told",
    "plain": r"plain",
    "rate": r"(?<!learning )(?<!parse )rates?",
}
"""Words of the other register, and a rate that does not say of what."""

NAMES = r"\{+[^{}]*\}+|--?[a-z][\w-]*|[\w.]*[_=/\\][\w.=/\\-]*|<[^>]*>|`[^`]*`"
"""Placeholders, options, names of tasks, keys and files, and tags: no words of a sentence."""

IN_CODE = (
    "distillation/method.py",
    "distillation/losses",
    "distillation/teachers/output.py",
    "runner/contracts",
)
"""Messages to those who write a method or a task, in the names that their code has."""

EXCEPTIONS = {
    "plain": ("or plain text",),  # text without markup, not a prompt
    "reply": ("one has example_id, outcome",),  # lists the keys of a stored row
}


def wrong_words(text):
    """The words of the wrong register in a text for users, each with what stands around it."""
    found = []
    for word, pattern in WRONG.items():
        prose = text
        for allowed in EXCEPTIONS.get(word, ()):
            prose = "" if prose.startswith(allowed) else prose.replace(allowed, "")
        prose = re.sub(NAMES, " ", prose)
        found += re.findall(rf".{{0,20}}\b{pattern}\b.{{0,20}}", prose, flags=re.IGNORECASE)
    return found


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Most tokens of one reply.", True),
        ("Replies written at a time.", True),
        ("Sampling of the writer.", True),
        ("What teachers are told.", True),
        ("told and plain prompts", True),
        ("Two methods cannot be told apart.", True),
        ("Two methods are not separated.", False),
        ("One rate, or several.", True),
        ("Maximum tokens per response.", False),
        ("One learning rate, or several; learning rates", False),
        ("the parse rate of told_other and max_reply_length", False),
        ("JSON, or plain text", False),
        ("with context and without context", False),
    ],
)
def test_a_word_of_the_other_register_is_seen(text, wrong):
    assert bool(wrong_words(text)) is wrong


@pytest.mark.parametrize("model", [Suite, Experience, ExtractSettings, SelectSettings])
def test_every_setting_is_described_in_the_words_of_users(model):
    for name, field in model.model_fields.items():
        assert field.description and field.description[0].isupper(), name
        assert wrong_words(field.description) == [], name


def commands(command, path=()):
    """Every command and group below one: its words, and what it says of itself and its options."""
    yield " ".join(path), command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


ALL = dict(commands(typer.main.get_command(main.app)))


@pytest.mark.parametrize("name", ALL)
def test_every_help_text_is_in_the_words_of_users(name):
    command = ALL[name]
    assert wrong_words(command.help or "") == []
    for parameter in command.params:
        if getattr(parameter, "help", None):
            assert wrong_words(parameter.help) == [], parameter.name


def test_the_help_of_options_is_looked_at():
    options = [p for c in ALL.values() for p in c.params if getattr(p, "help", None)]
    assert len(ALL) > 15 and len(options) > 100
    assert {"new method", "micro card"} <= set(ALL)


def test_suites_say_what_they_are_for_in_the_words_of_users():
    for file in sorted((PACKAGE / "config" / "suites").glob("*.toml")):
        assert wrong_words(tomllib.loads(file.read_text(encoding="utf-8"))["summary"]) == []


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.name)
def test_a_report_is_in_the_words_of_users(path):
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<(style|script|pre)\b[^>]*>.*?</\1>", " ", text, flags=re.DOTALL)
    text = re.sub(r"\{[%#].*?[%#]\}", " ", text, flags=re.DOTALL)
    said = [*re.findall(r'(?:alt|aria-label)="([^"]*)"', text), text.replace("\\_", "_")]
    assert [word for part in said for word in wrong_words(part)] == []


def messages(file):
    """What a module raises, prints, warns of and names a phase of, as templates."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        called = getattr(node, "func", None)
        name = getattr(called, "id", getattr(called, "attr", ""))
        if isinstance(node, ast.Raise) or name in ("print", "note", "warn", "phase"):
            inside = set()
            for part in ast.walk(node):
                if isinstance(part, ast.JoinedStr):
                    inside |= set(map(id, ast.walk(part))) - {id(part)}
                    whole = [v.value if isinstance(v, ast.Constant) else "{}" for v in part.values]
                    yield "".join(whole)
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    if id(part) not in inside:
                        yield part.value


def test_every_message_is_in_the_words_of_users():
    seen = 0
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if name.startswith(IN_CODE):
            continue
        for text in messages(file):
            seen += 1
            assert wrong_words(text) == [], name
    assert seen > 300
