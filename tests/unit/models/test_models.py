"""Opening models: what is read off them, and one clear message for everything that is wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from fixtures import CHATML, tiny_model, tiny_tokenizer, write_tiny_model
from safetensors.torch import load_file, save_file
from transformers.utils import import_utils

from opcd_bench.errors import DataError, ModelError, StoreError
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import (
    assemble,
    copy_frozen,
    freeze,
    load,
    reset_modes,
    same_vocabulary,
)
from opcd_bench.models.prompts import prompt_ids
from opcd_bench.models.saving import save, weights_hash
from opcd_bench.models.source import attention_words
from opcd_bench.store.files import is_leftover

ASK = [{"role": "user", "content": "a b"}]


@pytest.fixture
def folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to spoil."""
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))


def test_load_reads_ids_lengths_and_types_off_the_folder(tiny_model_folder: Path) -> None:
    loaded = load(str(tiny_model_folder), device="cpu")
    assert loaded.eos_ids == (2,)
    assert loaded.pad_id == 0
    assert (loaded.vocab_size, loaded.padded_rows, loaded.max_length) == (259, 0, 2048)
    assert (loaded.device, loaded.dtype) == (torch.device("cpu"), torch.float32)
    assert not loaded.model.training
    assert weights_hash(loaded.model) == weights_hash(tiny_model())


def test_load_casts_to_the_dtype_asked_for(tiny_model_folder: Path) -> None:
    loaded = load(str(tiny_model_folder), device="cpu", dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16
    assert loaded.model.lm_head.weight.dtype == torch.bfloat16


def test_the_generation_config_s_ends_follow_the_tokenizer_s(folder: Path) -> None:
    model = tiny_model()
    model.generation_config.eos_token_id = [7, 2, 9]
    assert assemble("two", model, tiny_tokenizer()).eos_ids == (2, 7, 9)


def test_padded_rows_are_counted_beyond_the_tokenizer() -> None:
    loaded = assemble("padded", tiny_model(vocab_size=320), tiny_tokenizer())
    assert (loaded.vocab_size, loaded.padded_rows) == (259, 61)


def test_a_tokenizer_larger_than_the_head_is_refused() -> None:
    with pytest.raises(ModelError, match="259 ids, but its LM head has only 200 rows"):
        assemble("small", tiny_model(vocab_size=200), tiny_tokenizer())


def test_a_missing_folder_says_where_it_looked() -> None:
    with pytest.raises(ModelError, match=r"\./nowhere does not exist \(looked in /"):
        load("./nowhere")


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file; give the folder"):
        load(str(folder / "config.json"))


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ("config.json", "has no config.json"),
        ("tokenizer.json", "has no tokenizer .*AutoTokenizer"),
        ("model.safetensors", r"has no \*.safetensors; its weights are missing"),
        ("chat_template.jinja", "no chat template"),
    ],
)
def test_each_missing_file_has_its_message(folder: Path, gone: str, says: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(ModelError, match=says):
        load(str(folder), device="cpu")


def test_pickled_weights_are_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model.bin, a pickle"):
        load(str(folder), device="cpu")


def test_cut_weights_are_called_corrupt(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelError, match="weights are corrupt"):
        load(str(folder), device="cpu")


def test_weights_that_would_be_random_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 weights, such as .*layers\.1\.mlp\.up_proj.* are missing"
    ):
        load(str(folder), device="cpu")


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[name] = tensors[name][:, :8].contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"do not fit its config\.json"):
        load(str(folder), device="cpu")


def test_an_unreadable_config_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: not valid JSON"):
        load(str(folder), device="cpu")


def test_a_model_without_an_end_of_sequence_is_refused() -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no response would end"):
        assemble("endless", model, tokenizer)


def test_an_unknown_hub_model_offline_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set.*hf download nobody/nothing"):
        load("nobody/nothing", device="cpu")


def test_devices_and_dtypes_that_do_not_exist_are_named(tiny_model_folder: Path) -> None:
    with pytest.raises(ModelError, match="'auto', 'cpu', 'cuda' or 'cuda:N'"):
        load(str(tiny_model_folder), device="toaster")
    with pytest.raises(ModelError, match="dtype 'int3' does not exist"):
        load(str(tiny_model_folder), device="cpu", dtype="int3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_says_what_to_type(tiny_model_folder: Path) -> None:
    with pytest.raises(ModelError, match="Type --device cpu"):
        load(str(tiny_model_folder), device="cuda:0")


def test_prompt_ids_follow_the_template_up_to_the_reply(tiny_loaded: LoadedModel) -> None:
    ids = prompt_ids(tiny_loaded, [{"role": "system", "content": "s"}, *ASK])
    text = tiny_loaded.tokenizer.decode(ids)
    assert text == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\na b<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt_ids(tiny_loaded.tokenizer, [{"role": "system", "content": "s"}, *ASK]) == ids


def test_prompt_ids_switch_thinking_off_where_the_template_can() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHATML + (
        "{% if enable_thinking is defined and enable_thinking is false %}NO{% endif %}"
    )
    assert tokenizer.decode(prompt_ids(tokenizer, ASK)).endswith("assistant\nNO")


def test_a_beginning_of_sequence_is_written_once() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<|bos|>"})
    bos = tokenizer.bos_token_id
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    assert prompt_ids(tokenizer, ASK).count(bos) == 1


def test_a_changed_template_is_not_answered_from_the_cache() -> None:
    tokenizer = tiny_tokenizer()
    before = prompt_ids(tokenizer, ASK)
    tokenizer.chat_template = CHATML + "!"
    assert len(prompt_ids(tokenizer, ASK)) == len(before) + 1


def test_a_template_that_refuses_a_role_says_where_to_put_the_context() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    with pytest.raises(DataError, match=r"roles system, user: no system.*user message"):
        prompt_ids(tokenizer, [{"role": "system", "content": "s"}, *ASK])


def test_the_same_vocabulary_passes_whatever_padding_and_template(
    tiny_loaded: LoadedModel,
) -> None:
    other = tiny_tokenizer()
    other.chat_template = CHATML + "!"
    same_vocabulary(tiny_loaded, assemble("padded", tiny_model(vocab_size=320), other))


def test_vocabularies_of_two_sizes_are_refused(tiny_loaded: LoadedModel) -> None:
    larger = assemble("larger", tiny_model(vocab_size=260), tiny_tokenizer(extra=("zz",)))
    with pytest.raises(ModelError, match="vocabularies have 259 and 260 tokens"):
        same_vocabulary(tiny_loaded, larger)


def test_vocabularies_that_differ_in_one_token_are_refused_by_its_id(
    tiny_loaded: LoadedModel,
) -> None:
    a = assemble("a", tiny_model(vocab_size=260), tiny_tokenizer(extra=("xx",)))
    b = assemble("b", tiny_model(vocab_size=260), tiny_tokenizer(extra=("yy",)))
    with pytest.raises(ModelError, match="token 259 is 'xx' for one and 'yy' for the other"):
        same_vocabulary(a, b)


def test_two_ends_of_a_reply_are_refused(tiny_loaded: LoadedModel) -> None:
    model = tiny_model()
    model.generation_config.eos_token_id = [2, 0]
    both = assemble("both", model, tiny_tokenizer())
    with pytest.raises(
        ModelError, match=r"'<\|im_end\|>' \(2\) for one and .* or '<\|pad\|>' \(0\) for the other"
    ):
        same_vocabulary(tiny_loaded, both)


def test_a_frozen_copy_stays_while_the_student_moves(tiny_loaded: LoadedModel) -> None:
    frozen = copy_frozen(tiny_loaded)
    before = weights_hash(frozen.model)
    with torch.no_grad():
        for parameter in tiny_loaded.model.parameters():
            parameter.add_(1.0)
    assert weights_hash(frozen.model) == before != weights_hash(tiny_loaded.model)
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())
    assert all(parameter.requires_grad for parameter in tiny_loaded.model.parameters())


def test_the_weights_hash_sees_one_bit(tiny_loaded: LoadedModel) -> None:
    before = weights_hash(tiny_loaded.model)
    with torch.no_grad():
        weight = tiny_loaded.model.model.norm.weight
        weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
    assert weights_hash(tiny_loaded.model) != before


def test_a_saved_model_loads_back_bit_for_bit(tiny_loaded: LoadedModel, tmp_path: Path) -> None:
    save(tiny_loaded, tmp_path / "deep" / "copy")
    again = load(str(tmp_path / "deep" / "copy"), device="cpu")
    assert weights_hash(again.model) == weights_hash(tiny_loaded.model)
    assert prompt_ids(again, ASK) == prompt_ids(tiny_loaded, ASK)
    assert again.eos_ids == tiny_loaded.eos_ids
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy"]


def test_what_a_killed_save_left_goes_with_the_next_one_and_nothing_else(
    tiny_loaded, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("opcd_bench.models.adapters.write_merged", killed)
        patch.setattr("shutil.rmtree", lambda *args, **kwargs: None)  # as a kill leaves it
        with pytest.raises(Killed):
            save(tiny_loaded, tmp_path / "copy")
    (left,) = tmp_path.iterdir()
    assert is_leftover(left.name)
    others = [".copy.mine", ".copy.0a1b2c3d", ".other.0a1b2c3d.opcd-bench.tmp"]
    for name in others:
        (tmp_path / name).mkdir()
    save(tiny_loaded, tmp_path / "copy")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "copy"])


def test_saving_over_something_is_refused(tiny_loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(StoreError, match="already exists"):
        save(tiny_loaded, tmp_path / "mine")


def test_a_save_that_fails_leaves_nothing_behind(
    tiny_loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiny_loaded.tokenizer, "save_pretrained", full)
    with pytest.raises(StoreError, match="No space left on device"):
        save(tiny_loaded, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_two_writings_of_one_seed_are_one_model(tmp_path: Path) -> None:
    one = load(str(write_tiny_model(tmp_path / "one", seed=5)), device="cpu")
    two = load(str(write_tiny_model(tmp_path / "two", seed=5)), device="cpu")
    assert weights_hash(one.model) == weights_hash(two.model)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_is_as_asked_and_gives_the_same_logits(attention, tiny_model_folder, tiny_loaded):
    asked = load(str(tiny_model_folder), device="cpu", attn_implementation=attention)
    assert asked.model.config._attn_implementation == attention
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        found = [m.model(input_ids=ids).logits for m in (asked, tiny_loaded)]
    assert torch.allclose(*found, atol=1e-4)


@pytest.mark.parametrize(
    ("device", "installed", "dtype", "says"),
    [
        ("cpu", True, torch.bfloat16, "needs a GPU, and the device is 'cpu'"),
        ("cuda", False, torch.bfloat16, "pip install flash-attn --no-build-isolation"),
        ("cuda", True, torch.float32, "needs 16-bit weights.*float32; set dtype = 'bfloat16'"),
    ],
)
def test_flash_attention_that_cannot_be_says_what_to_type(
    device, installed, dtype, says, monkeypatch
):
    monkeypatch.setattr(import_utils, "is_flash_attn_2_available", lambda: installed)
    with pytest.raises(ModelError, match=says + r".*attn_implementation = 'sdpa'"):
        attention_words("m", "flash_attention_2", torch.device(device), dtype)


def test_flash_attention_where_it_can_be_is_passed_on(monkeypatch):
    monkeypatch.setattr(import_utils, "is_flash_attn_2_available", lambda: True)
    words = attention_words("m", "flash_attention_2", torch.device("cuda"), torch.bfloat16)
    assert words == {"attn_implementation": "flash_attention_2"}
    assert attention_words("m", "auto", torch.device("cpu"), torch.float32) == {}


def test_flash_attention_on_a_cpu_is_one_clear_error(tiny_model_folder):
    with pytest.raises(ModelError, match="flash_attention_2' needs a GPU"):
        load(str(tiny_model_folder), device="cpu", attn_implementation="flash_attention_2")


def test_code_of_a_model_s_own_is_not_run_unless_asked(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "its_own", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('it was run')")
    with pytest.raises(ModelError, match=r"its own Python code.*trust_remote_code=true"):
        load(str(folder), device="cpu")


def test_a_model_is_frozen_in_place_and_settled_after_a_failure(tiny_loaded: LoadedModel) -> None:
    tiny_loaded.model.train()
    tiny_loaded.model(input_ids=torch.tensor([[5, 6]])).logits.sum().backward()
    reset_modes(tiny_loaded)
    assert not tiny_loaded.model.training
    assert all(p.grad is None and p.requires_grad for p in tiny_loaded.model.parameters())
    assert freeze(tiny_loaded) is tiny_loaded
    assert not any(p.requires_grad for p in tiny_loaded.model.parameters())


def test_thinking_is_as_the_reader_says_and_part_of_the_protocol(tiny_loaded):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHATML + "{% if enable_thinking %}<think>{% endif %}"
    quiet = dataclasses.replace(tiny_loaded, tokenizer=tokenizer)
    aloud = dataclasses.replace(quiet, thinking=True)
    words = [{"role": "user", "content": "Hi."}]
    assert tokenizer.decode(prompt_ids(aloud, words)).endswith("<think>")
    assert prompt_ids(quiet, words) == prompt_ids(tokenizer, words) != prompt_ids(aloud, words)


def test_pickled_weights_are_opened_only_where_the_user_says_so(tmp_path, tiny_model_folder):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="allow_pickle = true to the suite"):
        load(str(folder), device="cpu")
    opened = load(str(folder), device="cpu", allow_pickle=True)
    assert weights_hash(opened.model) == weights_hash(load(str(tiny_model_folder)).model)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"eos_token_id": "x"}, "eos_token_id must be a token's number"),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number above 0"),
        ({"rope_parameters": "x"}, "cannot be opened"),
        ({"dtype": "floaty"}, "cannot be opened"),
        ({"layer_types": ["x"]}, "cannot be opened"),
    ],
)
def test_a_config_that_no_model_can_be_made_of_is_one_message(
    tiny_model_folder: Path, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ModelError, match=told):
        load(str(folder), device="cpu")


def test_a_bad_pickle_is_one_message(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(ModelError, match="no pickle of weights alone"):
        load(str(folder), device="cpu", allow_pickle=True)


@pytest.mark.parametrize("device", ["meta", "mps", "xpu"])
def test_a_device_that_nothing_is_trained_on_is_refused(
    tiny_model_folder: Path, device: str
) -> None:
    with pytest.raises(ModelError, match="'auto', 'cpu', 'cuda' or 'cuda:N'"):
        load(str(tiny_model_folder), device=device)
