"""The claims that shipped suites state: testable, and on arms that the suites have."""

import warnings

import pytest

from opcd_bench.config.claims import arm
from opcd_bench.config.suite import is_identity
from opcd_bench.errors import ConfigError, DataWarning
from opcd_bench.runner import registry
from opcd_bench.runner.rounds import any_suite

STUDIES = [name for name in registry.suites() if registry.suite(name).claims]


def test_the_studies_of_the_second_paper_state_their_claims():
    assert {name for name in registry.suites() if name.startswith("faces_")} <= set(STUDIES)
    assert "context_quality" in STUDIES


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("size", [None, "full"])
def test_every_claim_is_on_arms_of_its_suite_in_their_own_words(name, size):
    suite = registry.suite(name, size=size)
    for claim in suite.claims:
        for words in filter(None, (claim.first, claim.second)):
            method, task = arm(words)
            assert method in (*suite.methods, "base"), claim
            assert task in suite.tasks, claim


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_a_smoke_size_on_the_weights_that_ship_and_says_how_long_the_full_one_takes(
    name,
):
    assert set(registry.suite_sizes(name)) == {"full", "smoke"}
    smoke = registry.suite(name, size="smoke")
    assert smoke.model == "micro-small" and smoke.max_steps <= 4
    assert "# Hours on two cores: about" in registry.suite_file(name).read_text()


def test_claims_judge_a_suite_and_are_no_part_of_what_its_cells_are():
    suite = registry.suite(STUDIES[0])
    assert is_identity("claims") and "claims" not in suite.shared_identity()
    assert (
        registry.suite("quick").claims == () and "claims" not in registry.suite("quick").identity()
    )


def test_a_claim_that_cannot_be_tested_is_refused_with_its_text(tmp_path):
    file = tmp_path / "mine.toml"
    head = 'methods = ["opcd"]\ntasks = ["rule_math"]\n[[claims]]\ntext = "It works."\n'
    for line, words in (
        ('first = "opcd"', "first"),
        ('first = "opcd on rule_math"\nmeasure = "rescue"', "It works"),
        ('first = "opcd on rule_math"\ndirection = "alike"', "threshold above 0"),
        ('first = "opcd on rule_math"\nmeasure = "speed"', "measure"),
    ):
        file.write_text(head + line + "\n")
        with pytest.raises(ConfigError, match=words):
            registry.suite(str(file))


SUITE = """methods = ["opcd"]
tasks = ["rule_math"]
[[claims]]
text = "It works."
first = "opcd on rule_math"
[[claims]]
text = "It works better."
first = "{}"
second = "base on rule_math"
"""


@pytest.mark.parametrize(
    "wrong", ["sft_contex on rule_math", "opcd on rule_mat", "opcd[kk=1] on rule_math"]
)
def test_a_misspelt_arm_is_named_with_its_file_and_its_place(tmp_path, wrong):
    file = tmp_path / "mine.toml"
    file.write_text(SUITE.format(wrong))
    with pytest.raises(
        ConfigError, match=r"mine.toml: claims.1.first: unknown (method|task|param)"
    ):
        registry.suite(file)


@pytest.mark.parametrize("absent", ["sft_context on rule_math", "opcd on frozen_lake"])
def test_a_claim_on_what_is_no_cell_is_said_before_the_run(tmp_path, absent):
    file = tmp_path / "mine.toml"
    file.write_text(SUITE.format(absent))
    with pytest.warns(DataWarning) as said:
        any_suite.planned(registry.suite(file))
    (told,) = said
    assert str(told.message).startswith(f"claims.1.first ({absent!r}): not among the methods and")


@pytest.mark.parametrize("name", STUDIES)
def test_the_claims_of_a_study_as_it_is_written_stay_unsaid_and_its_smoke_size_still_runs(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        assert any_suite.planned(registry.suite(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        assert any_suite.planned(registry.suite(name, size="smoke"))
