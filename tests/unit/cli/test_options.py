"""Options that are made of declared settings: one default, one help text, one set of bounds."""

import typer

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
            assert shown[name].help == field.description, name
            assert f"--{name.replace('_', '-')}" in shown[name].opts


def test_an_option_of_run_leaves_its_default_to_the_suite():
    shown = options("run")
    for name in cli_settings.OPTIONS:
        assert shown[name].default is None, name
        assert shown[name].help == Suite.model_fields[name].description


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
