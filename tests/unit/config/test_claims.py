"""The claims that shipped suites state: testable, and on arms that the suites have."""

import pytest

from opcd_bench.config.claims import arm
from opcd_bench.config.suite import is_identity
from opcd_bench.errors import ConfigError
from opcd_bench.runner import registry

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
