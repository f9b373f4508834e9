"""A run with drift and held-out loss: stored apart, shown as columns of their own."""

import json

import pytest

from opcd_bench import api
from opcd_bench.store.run_reader import RunReader


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("nats")
    (place / "data" / "gsm8k").mkdir(parents=True)
    rows = [
        {"question": "What is 1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"},
        {"question": "Ann has 3 hats and buys 4. How many?", "answer": "3 + 4 = 7\n#### 7"},
    ]
    (place / "data" / "gsm8k" / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return api.run(
        "quick", methods=["sft_context"], tasks=["rule_math"], max_steps=1, batch_size=4, seeds=1,
        learning_rate=1e-3, dev_items=2, test_items=2, retention=["ifeval_micro", "drift",
        "loss_gsm8k"], retention_items=2, data_dir=str(place / "data"), eval_steps=1, jobs=1,
        choose="last", interpolate=[0.5], keep_checkpoints="chosen",
        output_dir=str(place / "results"), quiet=True,
    )  # fmt: skip


def test_the_base_has_no_drift_and_the_student_some(results):
    (run,) = (path for path in results.path.iterdir() if path.name.startswith("rule_math--"))
    rows = RunReader(run).read("evals")
    drift = {row["step"]: row["value"] for row in rows if row["metric"] == "kl"}
    assert drift[0] == 0.0 and drift[1] > 0
    assert {row["split"] for row in rows if row["task"] == "drift"} == {"nats"}


def test_each_has_a_column_of_its_own_in_nats(results):
    (row,) = results.headline.to_dict("records")
    assert row["drift_in_nats_before"] == 0.0 and row["drift_in_nats_after_training"] > 0
    assert row["loss_gsm8k_in_nats_change"] == pytest.approx(
        row["loss_gsm8k_in_nats_after_training"] - row["loss_gsm8k_in_nats_before"]
    )
    assert not any("drift" in name and name.endswith("_change") and "nats" not in name
                   for name in row)  # fmt: skip


def test_what_lies_between_base_and_student_has_them_too(results):
    (half,) = results.entrants.to_dict("records")
    (row,) = results.headline.to_dict("records")
    assert half["loss_gsm8k_after"] > 1, "no share: its interval is no share's either"
    assert 1 < half["loss_gsm8k_after_low"] < half["loss_gsm8k_after"]
    assert 0 < half["drift_after"] < row["drift_in_nats_after_training"]


def test_the_page_shows_them_and_says_what_they_are(results, tmp_path):
    page = results.report(tmp_path / "page")
    text = (page.parent / "headline.md").read_text().replace("\\_", "_")
    assert "drift (nats)" in text and "loss_gsm8k change (nats)" in text
    assert "drift change (nats)" not in text and "less is better" in text


def test_accuracies_are_never_mixed_with_nats(results):
    assert set(results.samples["measured"]) == {"rule_math", "ifeval_micro"}
