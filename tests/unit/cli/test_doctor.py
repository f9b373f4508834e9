"""What the doctor says to type is what the package's own errors say, and what pip can find."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from opcd_bench.cli import doctor
from opcd_bench.runner import tracker

ROOT = Path(__file__).parents[3]


def test_every_optional_package_comes_with_the_extra_that_is_named():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = settings["optional-dependencies"]
    for package, (extra, _) in doctor.EXTRAS.items():
        assert package in {Requirement(text).name for text in extras[extra]}, package


def test_a_tracker_is_installed_by_one_command_wherever_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda _: None)
    typed = {finding.what: finding.type_this for finding in doctor._extras()}
    assert typed["tensorboard"] == typed["wandb"] == tracker._INSTALL
