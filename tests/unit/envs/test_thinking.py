"""What a reply says apart from its thinking."""

import pytest

from opcd_bench.envs.thinking import without_thinking


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
    ],
)
def test_thinking_is_taken_out_wherever_it_stands(reply, said):
    assert without_thinking(reply) == said
