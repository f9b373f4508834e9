import json
import random

import pytest

from opcd_bench.envs.worlds import chain_talk
from opcd_bench.envs.worlds.operators import NAMES, SCHOOLS
from opcd_bench.models import cpu, micro
from opcd_bench.models.micro import batches, build, gradient, mixture, pretrain, quick
from opcd_bench.models.micro import tokenizer as micro_tokenizer
from opcd_bench.models.micro.recipe import SIZES, PretrainRecipe
from opcd_bench.runner import micro_card

SHARES = {"chain_talk.draw_few": 0.7, "chain_drills.draw_recall": 0.3}
TINY = PretrainRecipe(
    vocab_size=1024,
    hidden_size=64,
    layers=2,
    heads=2,
    intermediate_size=64,
    micro_tokens=600,
    warmup=2,
    compiled=False,
    tokenizer_conversations=200,
    stages=((0, SHARES),),
)


@pytest.fixture(scope="module")
def shipped():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(micro.path())


@pytest.fixture(scope="module")
def made():
    drawn = mixture.conversations(0, -1, 3000, mixture.THIRD)
    texts = [m["content"] for c in drawn for m in c.messages] + [c.reply for c in drawn]
    return micro_tokenizer.train(texts, 1344)


def test_digits_cells_names_and_schools_are_one_token_each(made):
    cells = [f" {row}{column}" for row in "abcd" for column in range(1, 5)]
    names = [*NAMES, *(f" {name}" for name in (*NAMES, *SCHOOLS))]
    for text in (*map(str, range(10)), *(f" {digit}" for digit in range(10)), *cells, *names):
        assert len(made.encode(text)) == 1, text
    assert len(made.encode("1234")) == 4
    assert len(made.encode(" 1234")) == 4
    assert len(made) <= 1344


def test_text_goes_through_the_tokenizer_unchanged(made):
    for conversation in mixture.conversations(3, 0, 200, mixture.THIRD):
        text = made.apply_chat_template(
            [dict(m) for m in conversation.messages], tokenize=False, add_generation_prompt=True
        )
        assert text.endswith("<|im_start|>assistant\n")
        text += conversation.reply
        assert made.decode(made.encode(text)) == text
    assert made.decode(made.encode("Qwérty?\t\n~ 漢")) == "Qwérty?\t\n~ 漢"


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
    drawn = [chain_talk.draw_few(rng) for _ in range(20)]
    drawn += [chain_talk.draw_rescue(rng) for _ in range(20)]  # what was begun carries none
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
            assert a.ids_BT.equal(b.ids_BT) and a.weight_BT.equal(b.weight_BT)


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
    model = build.make_model(TINY, tokenizer, seed=1).double().eval()
    ids = torch.randint(0, 400, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 11, dtype=torch.bool)
    mask[:, 5:9] = True
    whole = model.model(input_ids=ids).last_hidden_state[mask]
    cpu.set_causal(model, True)
    kept = mask.flatten().nonzero().squeeze(1)
    assert torch.allclose(gradient.reply_states(model, ids, kept), whole, atol=1e-9)


@pytest.mark.slow
def test_a_compiled_loss_and_its_gradient_are_the_plain_ones():
    import torch

    tokenizer = micro_tokenizer.train(["a b c d e f g h"], 400)
    model = build.make_model(TINY, tokenizer, seed=1)
    cpu.set_causal(model, True)
    generator = torch.Generator().manual_seed(0)
    for rows, length in ((3, 17), (1, 33), (6, 49)):
        ids = torch.randint(0, 400, (rows, length), generator=generator)
        weight = torch.zeros(rows, length)
        weight[:, 5:13] = torch.rand(rows, 8, generator=generator)
        batch = batches.Batch(ids, weight, ids.numel())
        both = []
        for compiled in (False, True):
            loss = gradient.loss_sum(model, batch, ids.device, compiled=compiled)
            both.append((loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))))
        for ours, theirs in zip(*both, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


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
    untrained = build.make_model(TINY, build.make_tokenizer(whole, TINY, 3), 3)
    untrained.save_pretrained(tmp_path / "untrained")
    assert (tmp_path / "untrained" / "model.safetensors").read_bytes() != ours


def test_weights_alone_are_enough_to_go_on(tmp_path, shipped):
    settings = {"seed": 3, "recipe": TINY, "device": "cpu", "tokens": 9_000}
    shipped.save_pretrained(tmp_path / "model")
    (tmp_path / pretrain.RECIPE).write_text('{"seed": 3, "tokens": 9000}')
    pretrain.pretrain(tmp_path, **settings, stop_after=3)
    before = json.loads((tmp_path / pretrain.PLACE).read_text())
    (tmp_path / pretrain.CHECKPOINT).unlink()
    pretrain.pretrain(tmp_path, **settings, stop_after=1)
    after = json.loads((tmp_path / pretrain.PLACE).read_text())
    assert (after["step"], after["since"]) == (4, 3)
    assert after["seen"] > before["seen"] and after["chunk"] == before["chunk"]
    assert "weights alone" in (tmp_path / "log.jsonl").read_text()


def test_a_short_reply_weighs_more_a_token_and_less_in_all():
    short, long = (batches.Encoded(list(range(10 + n)), 10) for n in (2, 128))
    assert (short.weight, long.weight) == (4.0, 0.5)
    assert 2 * short.weight < 128 * long.weight


def test_shares_of_every_stage_are_a_whole():
    for _, shares in (*mixture.STAGES, *mixture.SOONER):
        assert sum(shares.values()) == pytest.approx(1.0)
    first, last = mixture.STAGES[0], mixture.STAGES[-1]
    assert mixture.shares_of(0) == first[1] == mixture.FIRST
    assert mixture.shares_of(last[0]) == last[1] == mixture.FOURTH
    assert mixture.shares_of(last[0] - 1) == mixture.STAGES[-2][1]
    assert SIZES["micro"].shares_of(135) == mixture.FOURTH == SIZES["micro-small"].shares_of(185)
    assert SIZES["micro-small"].shares_of(184) == mixture.THIRD == SIZES["micro"].shares_of(134)


def test_the_sizes_are_one_and_four_million_parameters():
    tokenizer = micro_tokenizer.train(["a b c"], 400)
    small, large = (
        sum(p.numel() for p in build.make_model(SIZES[name], tokenizer, 0).parameters())
        for name in ("micro-small", "micro")
    )
    assert 1.0e6 < small < 1.2e6 and 3.5e6 < large < 4.0e6


def test_right_replies_are_counted_right_by_every_quick_skill():
    rng = random.Random(3)
    for name, skill in quick.SKILLS.items():
        assert not skill(rng).is_right(""), name
    item = quick.choice_item(random.Random(1), "hint")
    assert item.is_right(item.messages[0]["content"])
    told = quick.choice_item(random.Random(1), "answer").messages[0]["content"]
    assert told == f"The answer is {item.messages[0]['content'].split()[-1]}."
    item = quick.chain_item(random.Random(1), "hint", 12, 3)
    assert item.is_right(item.messages[0]["content"])


def test_the_rate_warms_up_stays_and_falls_to_zero():
    recipe = PretrainRecipe(warmup=10, decay=0.25)
    assert recipe.rate(0, 0, 100) == pytest.approx(0.1)
    assert recipe.rate(10, 50, 100) == 1.0
    assert recipe.rate(10, 90, 100) == pytest.approx(0.4)
    assert recipe.rate(10, 100, 100) == 0.0


def test_the_shipped_folder_loads_and_is_small():
    import torch
    from transformers import AutoModelForCausalLM

    folder = micro.path()
    assert sum(file.stat().st_size for file in folder.rglob("*")) <= 5_000_000
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "qwen3" and model.config.head_dim == 32
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_the_shipped_card_holds_what_it_claims():
    made = json.loads((micro.path() / "card.json").read_text(encoding="utf-8"))
    for name in ("rule_math", "frozen_lake", "sokoban"):
        row = made["tasks"][name]
        assert row["told"]["low"] > row["plain"]["high"], name
        assert row["told"]["value"] > max(row["floors"].values())


def test_a_share_on_the_card_has_wilson_s_interval():
    made = micro_card.share(8, 10)
    assert made == {
        "value": 0.8,
        "low": pytest.approx(0.4901625, abs=1e-5),
        "high": pytest.approx(0.9433178, abs=1e-5),
        "n": 10,
    }
    assert micro_card.share(0, 20)["low"] == 0.0 and micro_card.share(20, 20)["high"] == 1.0
