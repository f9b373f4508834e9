"""What every test may use."""

import types

import pytest
from fixtures import tiny_loaded, tiny_model_folder

from opcd_bench.cli import main
from opcd_bench.rollout import regraded

__all__ = ["opcd", "tiny_loaded", "tiny_model_folder"]


@pytest.fixture
def opcd(capsys, tmp_path, monkeypatch):
    """Run a command line in an empty folder; returns (exit code, standard output, error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = 0
        try:
            main.entry([str(word) for word in words])
        except SystemExit as left:
            code = left.code or 0
        captured = capsys.readouterr()
        return types.SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def only_played_episodes(monkeypatch):
    """For tests that count episodes: those of which only the prompts are looked at are not opened.

    Nor does a right reply that was cut open a second one.
    """
    from opcd_bench.experience.extract import Extraction
    from opcd_bench.runner import prompt_record

    monkeypatch.setattr(regraded, "cut_off", lambda *_: None)
    monkeypatch.setattr(prompt_record, "SAMPLED", 0)
    monkeypatch.setattr(Extraction, "rehearse", lambda _: None)
