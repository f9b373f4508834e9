import json
import random
import re

import pytest

from opcd_bench.envs.worlds import rule_math
from opcd_bench.models import cpu, micro
from opcd_bench.models.micro import batches, mixture, pretrain
from opcd_bench.models.micro import tokenizer as micro_tokenizer
from opcd_bench.runner import micro_card

SHARES = {"rule_math.draw": 0.7, "rule_math.draw_recall": 0.3}
TINY = pretrain.PretrainRecipe(
    vocab_size=1024,
    hidden_size=64,
    layers=2,
    heads=2,
    intermediate_size=64,
    micro_tokens=600,
    warmup=2,
    tokenizer_conversations=200,
    shares=SHARES,
    later_shares=SHARES,
    final_shares=SHARES,
)


@pytest.fixture(scope="module")
def shipped():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(micro.path())


def test_digits_cells_and_marks_are_one_token_each(shipped):
    for text in (*map(str, range(10)), *(f" {digit}" for digit in range(10))):
        assert len(shipped.encode(text)) == 1
    for text in micro_tokenizer.required_tokens():
        assert len(shipped.encode(text)) == 1, text
    assert len(shipped.encode("1234")) == 4
    assert len(shipped.encode(" 1234")) == 4


def test_conversations_go_through_the_tokenizer_unchanged(shipped):
    for conversation in mixture.conversations(3, 0, 200):
        text = shipped.apply_chat_template(
            [dict(m) for m in conversation.messages], tokenize=False, add_generation_prompt=True
        )
        assert text.endswith("<|im_start|>assistant\n")
        text += conversation.reply
        assert shipped.decode(shipped.encode(text)) == text


def test_the_template_marks_roles_and_ends(shipped):
    text = shipped.apply_chat_template(
        [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
    )
    assert shipped.eos_token == "<|im_end|>" and shipped.pad_token == "<|endoftext|>"


def test_only_the_reply_and_its_end_carry_loss(shipped):
    rng = random.Random(0)
    drawn = [rule_math.draw(rng) for _ in range(20)]
    for one, encoded in zip(drawn, batches.encode(shipped, drawn), strict=True):
        assert shipped.decode(encoded.ids[encoded.start :]) == one.reply + "<|im_end|>"


def test_steps_that_resume_are_the_steps_that_would_have_come(shipped):
    def first(count, **where):
        order = batches.steps(
            shipped,
            1,
            shares=lambda _: SHARES,
            micro_tokens=2000,
            micro_batches=2,
            chunk_size=64,
            **where,
        )
        return [next(order) for _ in range(count)]

    whole = first(6)
    chunk, within, _ = whole[2]
    for (_, _, ours), (_, _, theirs) in zip(
        whole[3:], first(3, chunk=chunk, first_step=within + 1), strict=True
    ):
        for a, b in zip(ours, theirs, strict=True):
            assert a.ids_BT.equal(b.ids_BT) and a.mask_BT.equal(b.mask_BT)


def test_the_fast_attention_is_causal_attention():
    import torch

    torch.manual_seed(0)
    query = torch.randn(2, 4, 7, 16, dtype=torch.float64)
    key, value = (torch.randn(2, 2, 7, 16, dtype=torch.float64) for _ in range(2))
    ours, _ = cpu.causal_attention(torch.nn.Identity(), query, key, value, None)
    theirs = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), is_causal=True
    )
    assert torch.allclose(ours, theirs.transpose(1, 2), atol=1e-12)


def test_reply_states_are_the_model_s_own():
    import torch

    tokenizer = micro_tokenizer.train(["a b c d e f g h"], 400)
    model = pretrain.make_model(TINY, tokenizer, seed=1).double().eval()
    ids = torch.randint(0, 400, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 11, dtype=torch.bool)
    mask[:, 5:9] = True
    whole = model.model(input_ids=ids).last_hidden_state[mask]
    cpu.set_causal(model, True)
    assert torch.allclose(pretrain.reply_states(model, ids, mask), whole, atol=1e-9)


def test_an_interrupted_pretraining_ends_with_the_same_weights(tmp_path, shipped):
    settings = {"seed": 3, "recipe": TINY, "device": "cpu", "tokens": 9_000}
    for part in ("whole", "parts"):  # spares the training of a tokenizer, which is done elsewhere
        shipped.save_pretrained(tmp_path / part / "model")
        (tmp_path / part / pretrain.RECIPE).write_text('{"seed": 3, "tokens": 9000}')
    whole = pretrain.pretrain(tmp_path / "whole", **settings)
    pretrain.pretrain(tmp_path / "parts", **settings, stop_after=3)
    parts = pretrain.pretrain(tmp_path / "parts", **settings)
    ours, theirs = ((p / "model.safetensors").read_bytes() for p in (whole, parts))
    assert ours == theirs
    untrained = pretrain.make_model(TINY, pretrain.make_tokenizer(whole, TINY, 3), 3)
    untrained.save_pretrained(tmp_path / "untrained")
    assert (tmp_path / "untrained" / "model.safetensors").read_bytes() != ours


@pytest.mark.parametrize(
    ("chunk", "pattern"),
    [
        (mixture.BRACKET_CHUNK - 1, r"%s is \[[ghjkmnqrtvxz]\]\."),
        (mixture.BRACKET_CHUNK, r"%s \[[ghjkmnqrtvxz]\]\."),
        (mixture.LETTER_CHUNK - 1, r"%s \[[ghjkmnqrtvxz]\]\."),
        (mixture.LETTER_CHUNK, r"%s [ghlmnoprstwy]\."),
    ],
)
def test_earlier_chunks_keep_the_words_that_the_shipped_weights_were_trained_on(chunk, pattern):
    for one in mixture.conversations(0, chunk, 5, {"games_recall.draw": 1.0}):
        for way in ("up", "down", "left", "right"):
            assert re.search(pattern % way, one.reply), one.reply


def test_the_rate_warms_up_stays_and_falls_to_zero():
    recipe = pretrain.PretrainRecipe(warmup=10, decay=0.25)
    assert recipe.rate(0, 0, 100) == pytest.approx(0.1)
    assert recipe.rate(10, 50, 100) == 1.0
    assert recipe.rate(10, 90, 100) == pytest.approx(0.4)
    assert recipe.rate(10, 100, 100) == 0.0


def test_the_shipped_folder_loads_and_is_small():
    import torch
    from transformers import AutoModelForCausalLM

    folder = micro.path()
    assert sum(file.stat().st_size for file in folder.rglob("*")) <= 20_000_000
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "qwen3" and model.config.head_dim == 64
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_shipped_card_holds_what_it_claims():
    made = json.loads((micro.path() / "card.json").read_text(encoding="utf-8"))
    for name in ("rule_math", "frozen_lake", "sokoban"):
        row = made["tasks"][name]
        assert row["told"]["low"] > row["plain"]["high"], name
        assert row["told"]["value"] > max(row["floors"].values())
    assert micro_card.render(made) == (micro.path() / "CARD.md").read_text(encoding="utf-8")


def test_wilson_intervals_are_the_published_ones():
    low, high = micro_card.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4901625, abs=1e-5), pytest.approx(0.9433178, abs=1e-5))
    assert micro_card.wilson(0, 20)[0] == 0.0 and micro_card.wilson(20, 20)[1] == 1.0
