"""Measures in nats: how far the model went from the base, and its loss on texts."""

import copy
import dataclasses
import json

import pytest
import torch

from opcd_bench.config.suite import make_suite
from opcd_bench.envs.data_sets import local_only
from opcd_bench.errors import ConfigError, DataError
from opcd_bench.evaluation import drift, held_out, held_out_texts
from opcd_bench.evaluation.scores import Score


def asked(*samples):
    return Score("some_task", "retention", "accuracy", {}, len(samples), 0, "0", samples)


LM_EVAL = {"prompt": "<|im_start|>user\nSay it.<|im_end|>\n", "reply": "So.", "finish": "stop"}
TURNS = {
    "turns": [
        {"messages": [{"role": "user", "content": "One"}], "reply": "Two", "finish": "stop"},
        {"messages": [{"role": "user", "content": "Three"}], "reply": "Four", "finish": "length"},
    ]
}


@pytest.fixture
def moved(tiny_loaded):
    model = copy.deepcopy(tiny_loaded.model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return dataclasses.replace(tiny_loaded, model=model)


def test_drift_of_the_base_itself_is_exactly_zero(tiny_loaded):
    base = drift.of_base(tiny_loaded, [asked(LM_EVAL, TURNS)])
    again = drift.measure(tiny_loaded, tiny_loaded, base)
    assert base.metrics == again.metrics == {"kl": 0.0, "kl_by_token": 0.0}
    assert again.protocol_hash == base.protocol_hash and again.n == 3


def _distribution(loaded, ids, at):
    with torch.no_grad():
        return torch.softmax(loaded.model(ids).logits[0, at, : loaded.vocab_size].double(), -1)


def test_drift_is_the_kl_that_enumeration_gives(tiny_loaded, moved):
    base = drift.of_base(tiny_loaded, [asked(LM_EVAL, TURNS)])
    found = drift.measure(tiny_loaded, moved, base)
    for row in found.samples:
        ids = torch.tensor([[*row["prompt_ids"], *row["reply_ids"]]])
        at = slice(len(row["prompt_ids"]) - 1, -1)
        p, q = (
            torch.softmax(
                one.model(ids).logits[0, at, : tiny_loaded.vocab_size].detach().double(), -1
            )
            for one in (tiny_loaded, moved)
        )
        assert row["score"] == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), abs=1e-5)
        assert row["score"] > 0
    mean = sum(row["score"] for row in found.samples) / len(found.samples)
    assert found.metrics["kl"] == pytest.approx(mean)


def test_a_reply_that_ended_is_measured_with_its_end(tiny_loaded):
    base = drift.of_base(tiny_loaded, [asked(TURNS)])
    ends = [row["reply_ids"][-1] == tiny_loaded.eos_ids[0] for row in base.samples]
    assert ends == [True, False]


def test_drift_needs_a_task_with_responses(tiny_loaded):
    with pytest.raises(DataError, match="asks for any"):
        drift.of_base(tiny_loaded, [asked({"prompt": "A?", "reply": None, "finish": None})])
    with pytest.raises(ConfigError, match="add one that asks for responses"):
        make_suite({"methods": ["opcd"], "tasks": ["rule_math"], "retention": ["drift"]}, "a test")


def test_measuring_leaves_the_modes_of_the_model(tiny_loaded, moved):
    moved.model.train()
    drift.measure(tiny_loaded, moved, drift.of_base(tiny_loaded, [asked(LM_EVAL)]))
    assert all(module.training for module in moved.model.modules())


def test_the_loss_is_that_of_transformers_on_the_worked_solution(tiny_loaded, tmp_path):
    (tmp_path / "gsm8k").mkdir()
    row = {"question": "What is 1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"}
    (tmp_path / "gsm8k" / "test.jsonl").write_text(json.dumps(row))
    assert held_out_texts.texts("loss_gsm8k", str(tmp_path)) == ["What is 1 + 1?\nIt is 2.\n#### 2"]
    found = held_out.measure(tiny_loaded, "loss_gsm8k", str(tmp_path))
    start = tiny_loaded.tokenizer.bos_token_id
    start = tiny_loaded.eos_ids[0] if start is None else start
    text = "What is 1 + 1?\nIt is 2.\n#### 2"
    ids = torch.tensor([[start, *tiny_loaded.tokenizer(text)["input_ids"]]])
    loss = tiny_loaded.model(ids, labels=ids).loss.item()
    assert found.metrics["loss"] == pytest.approx(loss, abs=1e-5)
    assert (found.split, found.primary, found.n) == ("nats", "loss", 1)


def test_headings_of_running_text_are_left_out(tmp_path):
    (tmp_path / "wikitext").mkdir()
    lines = ["", " = Heading = ", "long " * 60]
    rows = "\n".join(json.dumps({"text": line}) for line in lines)
    (tmp_path / "wikitext" / "test.jsonl").write_text(rows)
    assert held_out_texts.texts("loss_wikitext", str(tmp_path)) == ["long " * 59 + "long"]


def test_texts_that_are_nowhere_are_one_message(tmp_path):
    with local_only(), pytest.raises(DataError, match="data set 'gsm8k'"):
        held_out_texts.texts("loss_gsm8k", str(tmp_path))
