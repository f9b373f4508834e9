"""`opcd-bench run --suite faces_… --size smoke`, and its page with every claim."""

import datasets
import pytest

from opcd_bench.runner import registry
from opcd_bench.store.run_reader import RunReader

STUDIES = sorted(name for name in registry.suites() if registry.suite(name).claims)


@pytest.fixture(autouse=True)
def without_hub(monkeypatch):
    """Nothing that a smoke size needs is on the Hub."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("asked the Hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.parametrize("name", STUDIES)
def test_the_smoke_size_of_a_study_runs_whole_and_its_page_says_every_claim(opcd, tmp_path, name):
    suite = registry.suite(name, size="smoke")
    answer = opcd("run", "--suite", name, "--size", "smoke")
    assert answer.code == 0, answer.err
    cells = len(suite.methods) * len(suite.tasks)
    assert f"{cells} of {cells} cells done, 0 failed" in answer.out
    for path in (tmp_path / "results" / f"{name}-smoke").glob("*/config.json"):
        rows = RunReader(path.parent).read("train")
        assert all(row["tokens"] > 0 and row["overlong"] == row["failed"] == 0 for row in rows)
    report = tmp_path / "reports" / f"{name}-smoke"
    said = (report / "claims.md").read_text()
    assert all(claim.text in said for claim in suite.claims)
    assert 'href="#claims"' in (report / "index.html").read_text()
