"""What a chat template brings with it: a date, a system prompt of its own, the end of a turn."""

import dataclasses

import pytest
from fixtures import CHATML, tiny_model, tiny_tokenizer

from opcd_bench.envs.task import Context
from opcd_bench.errors import DataError, ModelError
from opcd_bench.models.chat_template import default_system, prints_date, turn_end
from opcd_bench.models.loading import assemble, load
from opcd_bench.models.prompts import prompt_ids, told_ids
from opcd_bench.models.template_check import check_template

ASK = [{"role": "user", "content": "Hi."}]
DATED = "{{ strftime_now('%d %b %Y') }}\n" + CHATML
DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are Tiny.<|im_end|>\n"
    "{% endif %}" + CHATML
)
DROPS = CHATML.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)


def with_template(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def read_as(template, **values):
    loaded = assemble("m", tiny_model(), with_template(template))
    return dataclasses.replace(loaded, **values)


def test_a_template_that_prints_the_date_prints_the_pinned_one():
    reader = read_as(DATED, date="2024-02-29")
    text = reader.tokenizer.decode(prompt_ids(reader, ASK))
    assert text.startswith("29 Feb 2024\n<|im_start|>user")
    other = dataclasses.replace(reader, date="2024-03-01")
    assert prompt_ids(other, ASK) != prompt_ids(reader, ASK)
    assert prompt_ids(dataclasses.replace(reader, date="2024-02-29"), ASK) == prompt_ids(
        reader, ASK
    )


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("{{ strftime_now('%Y-%m-%d') }}", "2024-02-29"),
        ('{%- set today = strftime_now( "%B %d" ) %}{{ today }}', "February 29"),
        ("{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}?{% endif %}", "2024"),
        ("{# strftime_now(x) #}none", "none"),
        ("{{ strftime_now('%H:%M') }}", "00:00"),
    ],
)
def test_the_date_is_pinned_wherever_it_is_printed(written, printed):
    reader = read_as(written + CHATML, date="2024-02-29")
    assert reader.tokenizer.decode(prompt_ids(reader, ASK)).startswith(f"{printed}<|im_start|>")


@pytest.mark.parametrize(
    "written",
    ["{% set f = strftime_now %}{{ f('%H') }}", "{% set f = '%H' %}{{ strftime_now(f) }}"],
)
def test_a_time_that_cannot_be_pinned_is_refused(written):
    with pytest.raises(ModelError, match=r"model 'm'.*time of day.*Write it there"):
        check_template("m", with_template(written + CHATML))


def test_only_a_template_that_prints_the_date_is_loaded_with_one(tiny_model_folder, tmp_path):
    import shutil

    assert not prints_date(tiny_tokenizer())
    assert load(str(tiny_model_folder), device="cpu", date="2024-02-29").date is None
    folder = shutil.copytree(tiny_model_folder, tmp_path / "dated")
    (folder / "chat_template.jinja").write_text(DATED)
    assert load(str(folder), device="cpu", date="2024-02-29").date == "2024-02-29"


@pytest.mark.parametrize(
    ("template", "own"),
    [
        (CHATML, ""),
        (DEFAULT, "You are Tiny."),
        (DROPS, ""),
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML,
            "",
        ),
        # As Llama's: the head of the system message is always there, and nothing is replaced.
        (
            "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
            "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}"
            "<|im_start|>system\nKnowledge: 2023\n\n{{ s }}<|im_end|>\n" + CHATML,
            "",
        ),
    ],
)
def test_the_system_prompt_that_a_context_replaces_is_found(template, own):
    assert default_system(with_template(template)) == own


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHATML, "<|im_end|>"),
        (CHATML.replace("<|im_end|>", "\n<|pad|>"), "<|pad|>"),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", None),
        ("{% if messages|length > 1 %}{{ raise_exception('one') }}{% endif %}" + CHATML, None),
    ],
)
def test_the_end_of_a_turn_is_found(template, end):
    assert turn_end(with_template(template)) == end


def test_replies_end_where_the_template_ends_a_turn_though_nobody_names_it():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    tokenizer.eos_token = "<|pad|>"  # a base model's: <|endoftext|>
    model.generation_config.eos_token_id = 0
    loaded = assemble("base", model, tokenizer)
    assert (loaded.eos_ids, loaded.added_end) == ((0, 2), "<|im_end|>")
    usual = assemble("chat", tiny_model(), tiny_tokenizer())
    assert (usual.eos_ids, usual.added_end) == ((2,), None)


def test_a_context_that_the_template_leaves_out_is_refused():
    reader = read_as(DROPS)
    with pytest.raises(DataError, match=r"'m' leaves the system message.*context_placement=user"):
        told_ids(reader, ASK, Context("Told."))
    replaced = read_as(DEFAULT.replace(CHATML, DROPS), name="own")
    with pytest.raises(DataError, match="leaves the system message"):
        told_ids(replaced, ASK, Context("Told."))
    told = told_ids(reader, ASK, Context("Told.", "user"))
    assert "Told.\n\nHi." in reader.tokenizer.decode(told)
    assert told_ids(reader, ASK, Context("")) == prompt_ids(reader, ASK)


def test_a_template_that_fails_on_messages_says_how():
    tokenizer = with_template(CHATML + "{% if messages|length > 1 %}{{ mesage['x'] }}{% endif %}")
    assert prompt_ids(tokenizer, ASK)
    with pytest.raises(DataError, match=r"user, user \(UndefinedError: 'mesage'.*Correct chat_tem"):
        prompt_ids(tokenizer, ASK * 2)
