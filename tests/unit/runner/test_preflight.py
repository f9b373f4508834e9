"""What is refused before a model is loaded, and what a plan only says."""

import pytest

from opcd_bench.cli import settings
from opcd_bench.config.suite import Suite
from opcd_bench.errors import DataWarning, ModelError
from opcd_bench.models import loading
from opcd_bench.runner import entrants, perform, preflight, registry
from opcd_bench.runner.rounds import any_suite

AWAY = "runs/mymodel"


def test_an_entrant_that_is_no_folder_here_is_said_by_a_plan_and_asked_for_before_the_first_cell(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    suite = settings.make("quick", {"entrant": [f"mine={AWAY}"]})
    with pytest.warns(DataWarning, match=f"--entrant mine={AWAY}: there is no such folder here"):
        any_suite.planned(suite)

    def asked(source, **_):
        raise ModelError(f"asked the Hub for {source}")

    def loaded(*_):
        pytest.fail("a model was loaded first")

    monkeypatch.setattr(loading, "config_of", asked)
    planned, resources = (type("X", (), {"suite": suite, "suite_dir": None, "check": loaded}),) * 2
    with pytest.raises(ModelError, match=f"--entrant mine={AWAY}: asked the Hub for {AWAY}"):
        perform.prepare(planned, resources, None)


def test_an_entrant_may_be_built_in_a_folder_or_in_the_model_folder(tiny_model_folder, tmp_path):
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "tiny").symlink_to(tiny_model_folder)
    given = ["a=micro-small", f"b={tiny_model_folder}", "c=owner/tiny"]
    suite = settings.make("quick", {"entrant": given, "model_dir": str(tmp_path)})
    entrants.require(suite)
    assert len(any_suite.planned(suite)) == 4


def test_a_device_that_is_not_here_is_said_by_a_plan_and_refused_by_a_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    suite = settings.make("quick", {"device": "cuda"})
    with pytest.warns(DataWarning, match="on this machine a run is refused: device 'cuda'"):
        any_suite.planned(suite)
    with pytest.raises(ModelError, match="Type --device cpu"):
        any_suite.checked(suite, planned=False)
    elsewhere = settings.make("quick", {"device": "cuda", "cluster": "slurm"})
    any_suite.checked(elsewhere, planned=False)


def test_a_cluster_that_is_not_there_leaves_nothing(opcd, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    told = opcd("run", "--suite", "quick", "--cluster", "slurm")
    assert told.code == 2 and "--cluster slurm" in told.err
    assert list(tmp_path.iterdir()) == []


def warning(model, tasks, retention=()):
    suite = Suite(
        name="mine", methods=["opcd"], tasks=[*tasks], model=model, retention=[*retention]
    )
    return preflight.form_warning(suite, {name: registry.task(name) for name in tasks})


@pytest.mark.parametrize("model", ["micro", "micro-small"])
def test_the_built_in_model_knows_the_form_of_its_tasks(model):
    assert warning(model, ["rule_math"], ["told_other"]) is None


def test_another_model_that_is_not_told_the_form_is_warned_of_by_task():
    said = warning("org/other", ["rule_math", "rule_choice"], ["told_other"])
    assert said.startswith("rule_math, told_other: the prompts do not say")
    assert "'org/other'" in said
    assert warning("org/other", ["handbook", "rule_choice"]) is None
