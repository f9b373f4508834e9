"""Options that are made of declared settings: one default, one help text, one set of bounds."""

import pytest
import typer
from rich.text import Text

from opcd_bench.cli import main
from opcd_bench.cli import settings as cli_settings
from opcd_bench.config.commands import ExtractSettings, SelectSettings
from opcd_bench.config.experience import Experience
from opcd_bench.config.suite import Suite

COMMANDS = typer.main.get_command(main.app).commands


def options(command):
    return {parameter.name: parameter for parameter in COMMANDS[command].params}


def test_extract_and_select_have_every_declared_setting_with_its_default_and_help():
    for command, settings in (("extract", ExtractSettings), ("select", SelectSettings)):
        shown = options(command)
        for name, field in settings.model_fields.items():
            assert shown[name].default == field.default, name
            assert Text.from_markup(shown[name].help).plain == field.description, name
            assert f"--{name.replace('_', '-')}" in shown[name].opts


def test_an_option_of_run_leaves_its_default_to_the_suite():
    shown = options("run")
    for name in cli_settings.OPTIONS:
        assert shown[name].default is None, name
        said = Text.from_markup(shown[name].help).plain
        assert said == Suite.model_fields[name].description


def test_choices_are_shown_as_they_are_declared():
    assert options("extract")["variant"].metavar == "memoryless|with-previous|raw-traces"
    assert options("run")["history"].metavar == "last|full"


def test_the_one_default_that_differs_is_the_seeds_of_a_round():
    both = ExtractSettings.model_fields.keys() & Experience.model_fields.keys()
    differ = {
        name
        for name in both
        if ExtractSettings.model_fields[name].default != Experience.model_fields[name].default
    }
    assert differ == {"seeds"} and len(both) > 5
    assert (ExtractSettings().seeds, Experience().seeds) == (10, 1)


def every_command(command=None, words=()):
    inner = COMMANDS if command is None else getattr(command, "commands", {})
    if command is not None:
        yield words, command
    for name, one in inner.items():
        yield from every_command(one, (*words, name))


@pytest.mark.parametrize("words", [words for words, _ in every_command()], ids=" ".join)
def test_a_help_at_80_columns_has_every_word_whole_and_no_bracket_is_markup(words, opcd):
    command = dict(every_command())[words]
    shown = opcd(*words, "--help").out
    said = [Text.from_markup(one.help or "").plain for one in command.params]
    cut = [word for text in said for word in text.split() if word not in shown]
    assert cut == []


def test_the_help_of_methods_has_parameters_in_their_brackets(opcd):
    for command in ("run", "estimate", "methods", "audit"):
        assert "opcd[k=4]" in opcd(command, "--help").out, command
