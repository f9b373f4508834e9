"""What the README promises is there."""

import re
from pathlib import Path

import pytest

from opcd_bench.cli import main
from opcd_bench.runner import registry
from opcd_bench.runner.contracts import checks

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAYOUT = README.split("## Layout")[1].split("```")[1]


def test_the_layout_names_every_module_and_package_of_the_harness():
    package = ROOT / "opcd_bench"
    modules = {file.name for file in package.glob("*.py") if file.name != "__init__.py"}
    packages = {f"{file.parent.name}/" for file in package.glob("*/__init__.py")}
    named = set(re.findall(r"^  (\w+\.py|\w+/) ", LAYOUT, flags=re.MULTILINE))
    assert named == modules | packages


def test_every_file_is_said_in_about_five_words():
    for line in LAYOUT.splitlines():
        said = re.match(r"\s*[\w./]+\s{2,}(.+)", line)
        if said:
            assert 2 <= len(said.group(1).split()) <= 7, line


def test_every_make_target_and_subcommand_it_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    commands = {command.name for command in main.app.registered_commands}
    commands |= {group.name for group in main.app.registered_groups}
    for name in set(re.findall(r"(?:^|[`/])opcd-bench ([a-z-]+)", README, flags=re.MULTILINE)):
        assert name in commands, name


def test_the_method_that_it_shows_is_short_and_keeps_its_contract(tmp_path):
    text = README.split("```python\n")[1].split("```")[0]
    assert len(text.splitlines()) <= 20
    file = tmp_path / "opcd_ema.py"
    file.write_text(text)
    broken = [result for result in checks.check_file(file) if not result.passed]
    assert broken == []


@pytest.mark.parametrize("name", re.findall(r"--suite (\w+)`", README))
def test_every_suite_that_it_names_ships(name):
    assert name in registry.suites()
