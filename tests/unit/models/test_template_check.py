"""Templates of which no prompt can come are refused at load, whatever they do."""

import time

import pytest
from fixtures import CHATML, tiny_tokenizer

from opcd_bench.errors import ModelError
from opcd_bench.models import template_check
from opcd_bench.models.template_check import check_template

NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
TURNS = "{% if messages|length > 2 %}BODY{% endif %}" + CHATML


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    monkeypatch.setattr(template_check, "_CHECKED", set())
    monkeypatch.setattr(template_check, "SECONDS", 1)


def refused(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ModelError) as told:
        check_template("m", tokenizer)
    return str(told.value)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}{{ m.content", "TemplateSyntaxError, line 1"),
        ("{{ mesage['content'] }}", "UndefinedError: 'mesage' is undefined"),
        ("{{ messages[0].content }}{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ messages[0].content | no_filter }}", "no_filter"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ messages[0].content }}{{ raise_exception('not today') }}", "not today"),
        ("{% for m in messages %}{{ m.contnt }}{% endfor %}", "leaves the user's message out"),
        ("{% for p in messages[0].content %}{{ p.text }}{% endfor %}", "leaves the user's message"),
        ("{{ 'x' * 200000 }}" + CHATML, "characters out of"),
        ("{{ 'x' * 10**11 }}" + CHATML, "MemoryError"),
        ("{{ lipsum() }}" + CHATML, "another prompt of the same messages each time"),
        ("{{ range(9999)|random }}" + CHATML, "another prompt of the same messages each time"),
        (NESTED + CHATML, "did not come to an end on a user message within 1 s"),
        ("{{ 9**(9**(9**9)) }}" + CHATML, "did not come to an end on a user message"),
        (TURNS.replace("BODY", NESTED), "did not come to an end on several turns"),
        (TURNS.replace("BODY", "{{ 'x' * 10**11 }}"), "MemoryError"),
    ],
)
def test_a_template_that_cannot_be_used_says_why(template, words):
    message = refused(template)
    assert message.startswith("model 'm': its chat template cannot be used: ")
    assert words in message


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{{ strftime_now('%d %b %Y') }}" + CHATML,
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML,
        TURNS.replace("BODY", "{{ raise_exception('one turn only') }}"),
        "{% if tools is defined and tools %}{{ tools }}{% endif %}" + CHATML,
    ],
)
def test_a_template_that_only_refuses_some_messages_passes(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    check_template("m", tokenizer)


def test_a_template_is_rendered_once_in_a_process(monkeypatch):
    check_template("m", tiny_tokenizer())
    monkeypatch.setattr(template_check, "_said_by_a_child", None)
    check_template("again", tiny_tokenizer())


def test_a_child_that_sleeps_is_given_up(monkeypatch):
    monkeypatch.setattr(template_check, "_WAIT", 0.3)
    begin = time.monotonic()
    assert template_check._said_by_a_child(lambda say: (say("first"), time.sleep(60))) == ["first"]
    assert time.monotonic() - begin < 30
