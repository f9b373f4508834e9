"""Wrong inputs: one clear message, its exit code, nothing computed, and nothing of the user's touched.

The rows lie in the ``rows_*.py`` beside this file. Each is typed in a folder of its own, in this process.
"""

import collections
import importlib
import os
import stat
from pathlib import Path

import pytest

from opcd_bench.cli import main
from opcd_bench.models import loading

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("rows_*.py"))
ROWS = [row for module in MODULES for row in importlib.import_module(module).ROWS]
LONGEST = 1500  # characters of a message: more is not one message


def tree(folder):
    """Every path below a folder with what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        held = path.read_bytes() if stat.S_ISREG(kind) else os.readlink(path) if path.is_symlink() else None
        found[str(path.relative_to(folder))] = (kind, held)
    return found


@pytest.fixture
def no_model(monkeypatch):
    """A model that is loaded: then something was found late."""

    def loaded(*_, **__):
        pytest.fail("a model was loaded before the wrong input was refused")

    monkeypatch.setattr(loading, "load", loaded)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_wrong_input(row, opcd, tmp_path, no_model):
    row.lay(tmp_path)
    before = tree(tmp_path)
    told = opcd(*row.arguments)
    message = told.err + told.out
    assert told.code == row.exit, message
    for words in row.words:
        assert words in message
    assert "Traceback" not in message
    assert len(told.err) <= LONGEST, "more than one message"
    assert tree(tmp_path) == before, "the user's folder changed"


def test_the_table_is_large_enough():
    """At least 300 rows, and five for every subcommand."""
    assert len(ROWS) >= 300
    counted = collections.Counter(row.arguments[0] if row.arguments else "" for row in ROWS)
    for command in main.app.registered_commands:
        assert counted[command.name] >= 5, command.name
    for group in main.app.registered_groups:
        assert counted[group.name] >= 5, group.name


def test_no_row_is_written_twice():
    doubled = [name for name, times in collections.Counter(row.name for row in ROWS).items() if times > 1]
    assert doubled == []
