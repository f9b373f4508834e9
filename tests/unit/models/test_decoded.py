"""Text of replies: thoughts stay thoughts, whatever a tokenizer calls their marks."""

import pytest
from fixtures import tiny_tokenizer

from opcd_bench.envs.thinking import without_thinking
from opcd_bench.models.decoded import opening, reply_text


def tokenizer_with(*tokens, special):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    return tokenizer


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    ("marks", "reply"),
    [
        (("<think>", "</think>"), "<think>Answer: 4</think>Answer: 3<|im_end|>"),
        (("[THINK]", "[/THINK]"), "[THINK]Answer: 4[/THINK]Answer: 3<|im_end|>"),
        (
            ("<|channel|>", "<|message|>"),
            "<|channel|>analysis<|message|>Answer: 4<|channel|>final<|message|>Answer: 3<|im_end|>",
        ),
    ],
)
def test_marks_that_are_special_tokens_do_not_vanish(marks, reply, special):
    tokenizer = tokenizer_with(*marks, special=special)
    written = ids(tokenizer, reply)
    assert reply_text(tokenizer, written) == reply.removesuffix("<|im_end|>")
    assert without_thinking(reply_text(tokenizer, written)) == "Answer: 3"


def test_a_cut_thought_between_special_marks_leaves_nothing():
    tokenizer = tokenizer_with("<think>", "</think>", special=True)
    assert without_thinking(reply_text(tokenizer, ids(tokenizer, "<think>Answer: 3"))) == ""


def test_other_special_tokens_are_dropped_as_ever():
    tokenizer = tokenizer_with("<think>", "</think>", special=True)
    written = ids(tokenizer, "so 3<|im_start|> it is<|im_end|>")
    assert reply_text(tokenizer, written) == "so 3 it is"
    assert reply_text(tokenizer, written) == tokenizer.decode(written, skip_special_tokens=True)
    assert reply_text(tokenizer, []) == ""


@pytest.mark.parametrize("special", [True, False])
def test_the_end_of_a_prompt_says_whether_a_thought_is_open(special):
    tokenizer = tokenizer_with("<think>", "</think>", special=special)
    question = "<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n"
    assert opening(tokenizer, ids(tokenizer, question)) == ""
    assert opening(tokenizer, ids(tokenizer, question + "<think>\n")) == "<think>\n"
    assert opening(tokenizer, ids(tokenizer, question + "<think>\n\n</think>\n\n")) == ""
    assert opening(tiny_tokenizer(), ids(tiny_tokenizer(), question + "<think>\n")) == "<think>\n"
