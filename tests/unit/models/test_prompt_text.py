"""Prompts that are no text are one message, before a tokenizer fails on them."""

import pytest
from fixtures import tiny_tokenizer

from opcd_bench.errors import DataError
from opcd_bench.models.prompts import prompt_ids


@pytest.mark.parametrize("content", [3, None, b"x", "half \ud800 a pair"])
def test_a_prompt_that_is_no_text_is_refused(content):
    with pytest.raises(DataError, match="a prompt's content is no text"):
        prompt_ids(tiny_tokenizer(), [{"role": "user", "content": content}])
