"""By what a suite's methods are judged is fixed before its runs."""

import pytest
from report_store import GOOD, cell, finished

from opcd_bench.config.suite import make_suite
from opcd_bench.errors import StoreError
from opcd_bench.runner.refusals import refuse_other_judgement
from opcd_bench.store.suite_dir import SuiteDir

SWEEP = {"learning_rate": [1e-3, 1e-2], "headline_learning_rate": "dev"}


def suite(**given):
    return make_suite({"methods": ["opcd"], "tasks": ["rule_math"], **given}, "here")


@pytest.fixture
def folder(tmp_path):
    made = SuiteDir(tmp_path / "toys")
    made.merge({"name": "toys", "tasks": ["toy"], "methods": ["good"]})
    return made


def test_the_rule_of_a_sweep_with_finished_runs_stays(folder):
    folder.merge(SWEEP)
    refuse_other_judgement(suite(), folder)  # nothing has run yet
    finished(folder, cell("good"), GOOD)
    with pytest.raises(StoreError, match=r"headline_rule = best.*--set headline_rule=best"):
        refuse_other_judgement(suite(), folder)
    refuse_other_judgement(suite(headline_rule="best"), folder)
    folder.merge({"headline_rule": "one_standard_error"})
    refuse_other_judgement(suite(), folder)
    with pytest.raises(StoreError, match="headline_rule = one_standard_error"):
        refuse_other_judgement(suite(headline_rule="best"), folder)


@pytest.mark.parametrize(
    "stored", [{"learning_rate": [1e-3]}, {**SWEEP, "headline_learning_rate": 1e-3}]
)
def test_where_no_rate_is_chosen_no_rule_is_kept(folder, stored):
    folder.merge(stored)
    finished(folder, cell("good"), GOOD)
    refuse_other_judgement(suite(), folder)


def test_the_margin_of_finished_runs_stays(folder):
    folder.merge({"learning_rate": [1e-3], "equivalence_margin": 0.02})
    finished(folder, cell("good"), GOOD)
    refuse_other_judgement(suite(equivalence_margin=0.02), folder)
    with pytest.raises(StoreError, match=r"equivalence_margin = 0\.02"):
        refuse_other_judgement(suite(), folder)


CLAIM = {"text": "It works.", "first": "good on toy"}


def test_the_claims_of_finished_runs_stay(folder):
    stated = suite(claims=[CLAIM])
    folder.merge({"claims": stated.model_dump(mode="json")["claims"]})
    refuse_other_judgement(suite(claims=[{**CLAIM, "threshold": 0.2}]), folder)
    finished(folder, cell("good"), GOOD)
    refuse_other_judgement(stated, folder)
    with pytest.raises(StoreError, match="claims that were stated before"):
        refuse_other_judgement(suite(claims=[{**CLAIM, "threshold": 0.2}]), folder)
