"""What a reply says apart from its thinking."""

import time

import pytest

from opcd_bench.envs.thinking import is_mark, opened_thought, without_thinking

MARKS = [
    ("<think>", "</think>"),
    ("<THINK>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("Answer: 3", "Answer: 3"),
        ("<think>Answer: 4</think>\n\nAnswer: 3", "Answer: 3"),
        ("<think>a</think>x <think>b\nc</think>y", "x y"),
        ("thought in the prompt's block</think>\nAnswer: 3", "Answer: 3"),
        ("<think>Answer: 4 and no end", ""),
        ("Answer: 3 <think>or is it 4", "Answer: 3 "),
        ("", ""),
        # what is mentioned in a thought neither begins nor ends another
        ("<think>tags like <think> help</think>Answer: 3", "Answer: 3"),
        ("<think>a <reasoning>b</reasoning> Answer: 4", ""),
        ("<think>a <thinking>b</thinking> Answer: 4</think>Answer: 3", "Answer: 3"),
        # a lone end: everything before it was thought, however often it comes
        ("Answer: 1</think>Answer: 2</think>Answer: 3", "Answer: 3"),
        ("<think>a</think>Answer: 4 </think>Answer: 3", "Answer: 3"),
    ],
)
def test_thinking_is_taken_out_wherever_it_stands(reply, said):
    assert without_thinking(reply) == said


@pytest.mark.parametrize(("opens", "ends"), MARKS)
def test_thoughts_are_known_by_the_marks_of_every_family(opens, ends):
    assert without_thinking(f"{opens}Answer: 4{ends}\nAnswer: 3") == "Answer: 3"
    assert without_thinking(f"Answer: 4{ends}\nAnswer: 3") == "Answer: 3"
    assert without_thinking(f"{opens}maybe Answer: 4") == ""


@pytest.mark.parametrize(("opens", "ends"), MARKS)
def test_a_prompt_that_ends_with_an_open_thought_is_known(opens, ends):
    head = "<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n"
    assert opened_thought(f"{head}{opens}\n").strip().startswith(opens.strip()[:7])
    assert without_thinking(opened_thought(f"{head}{opens}") + "maybe Answer: 5") == ""
    assert opened_thought(f"{head}{opens}\n\n{ends}\n\n") == ""
    assert opened_thought(head) == ""


def test_special_tokens_that_are_marks_are_known():
    assert all(map(is_mark, ("<think>", "</think>", "[THINK]", "<|channel|>", "<|END_THINKING|>")))
    assert not any(map(is_mark, ("<|im_end|>", "<pad>", "</s>", "<|endoftext|>", "<tool_call>")))


@pytest.mark.parametrize(
    "piece", ["<think>", "</think>", "<think></think>", "<think> ", "<|channel|>"]
)
def test_a_hundred_and_forty_thousand_characters_of_marks_take_one_pass(piece):
    begin = time.process_time()
    without_thinking(piece * (140_000 // len(piece)))
    assert time.process_time() - begin < 2
