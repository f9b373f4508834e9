"""Chat templates of which no prompt can come: an estimate renders prompts, and loads no weights."""

import json

from fixtures import CHATML, SPECIAL, tiny_tokenizer
from row import Row

_CONFIG = {
    "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": 259,
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 2048,
    "tie_word_embeddings": True, "eos_token_id": 2,
}  # fmt: skip
_TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[2], "pad_token": SPECIAL[0],
}  # fmt: skip
_CORRECT_IT = "Correct chat_template.jinja in the model's folder"
_UNUSABLE = "model 'm': its chat template cannot be used"
_REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"


def _model(template):
    """The files of a model without weights that has this chat template."""
    return {
        "m/config.json": json.dumps(_CONFIG),
        "m/tokenizer.json": tiny_tokenizer().backend_tokenizer.to_str(),
        "m/tokenizer_config.json": json.dumps(_TOKENIZER),
        "m/model.safetensors": b"",
        "m/chat_template.jinja": template,
    }


def _row(template, *words):
    typed = "estimate --model m --tasks rule_math --methods opcd --retention ifeval_micro"
    return Row(typed, words, _model(template))


ROWS = [
    _row("{% for m in messages %}{{ m.content", _UNUSABLE, "SyntaxError, line 1", _CORRECT_IT),
    _row("{% for m in messages %}{{ m.content }}", _UNUSABLE, "TemplateSyntaxError", _CORRECT_IT),
    _row("{{ mesages[0].content }}", _UNUSABLE, "'mesages' is undefined", _CORRECT_IT),
    _row("{% for m in messages %}{{ m.text }}{% endfor %}", _UNUSABLE, "leaves the user's message"),
    _row("{{ messages[0].content }}{{ 1 / 0 }}", _UNUSABLE, "ZeroDivisionError", _CORRECT_IT),
    _row("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", _UNUSABLE, "RecursionError"),
    _row("{{ 'x' * 10**12 }}" + CHATML, _UNUSABLE, "MemoryError", _CORRECT_IT),
    _row("{{ 9**(9**(9**9)) }}" + CHATML, _UNUSABLE, "did not come to an end", _CORRECT_IT),
    _row("{{ 'x' * 300000 }}" + CHATML, _UNUSABLE, "characters out of"),
    _row("{{ lipsum() }}" + CHATML, _UNUSABLE, "Remove what is random in it"),
    _row("{{ strftime_now(f) }}" + CHATML, "model 'm'", "time of day", "Write it there"),
    _row("{{ messages[0].content }}{{ raise_exception('no') }}", _UNUSABLE, "refuses", "no"),
    _row(
        CHATML.replace("message in messages", "message in messages if message.role == 'user'"),
        "leaves the system message with the context out", "--set context_placement=user",
    ),
    _row(
        _REFUSES + CHATML,
        "refuses messages of the roles system, user: no system", "--set context_placement=user",
    ),
    _row(
        "{% if messages|length > 1 %}{{ a.b.c }}{% endif %}" + CHATML,
        "roles system, user (UndefinedError: 'a' is undefined)", _CORRECT_IT,
    ),
]  # fmt: skip
