"""A suite's settings: strict, whole messages, and every field classed."""

import json

import pytest

from opcd_bench.config.suite import Suite, is_identity, make_suite
from opcd_bench.errors import ConfigError
from opcd_bench.hashing import canonical, digest
from opcd_bench.printable import HIDDEN

LEAST = {"methods": ["opcd"], "tasks": ["rule_math"]}

RUNTIME = {
    "name", "summary", "gradient_checkpointing", "data_dir", "model_dir", "output_dir", "device",
    "rollout_batch_size", "save_steps", "keep_checkpoints", "report_to", "threads",
    "jobs", "cluster", "cluster_options", "trust_remote_code", "allow_pickle", "vllm_url",
    "vllm_options", "teacher_url",
    "begin_folder", "method_files", "task_files", "entrants", "interpolate",
}  # fmt: skip


def suite(**values):
    return make_suite({**LEAST, **values}, "a test")


def refused(**values):
    with pytest.raises(ConfigError) as caught:
        suite(**values)
    return str(caught.value)


def test_every_field_is_classed_and_told():
    for name, field in Suite.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict) and extra.get("class") in ("identity", "runtime"), (
            f"Suite.{name} is unclassed: declare it with identity(...) or runtime(...)"
        )
        assert field.description, f"Suite.{name} has no help"


def test_the_runtime_fields_are_those_that_move_no_number():
    assert {name for name in Suite.model_fields if not is_identity(name)} == RUNTIME


def test_the_runtime_fields_that_move_last_digits_are_declared_so_and_given_with_their_values():
    assert suite(threads=2, vllm_options={"hf_token": "secret"}).rounding() == {
        "gradient_checkpointing": False,
        "rollout_batch_size": 128,
        "threads": 2,
        "vllm_options": {"hf_token": HIDDEN},
    }


def test_what_is_stored_of_a_suite_has_no_credentials_however_deep_and_no_folder_of_its_own():
    secret = "hf_s3cret"
    made = suite(
        output_dir="/home/anna/results",
        vllm_options={"nested": {"hf_token": secret, "keys": [secret]}, "max_num_seqs": 4},
        cluster="slurm",
        cluster_options={"setup": f"export HF_TOKEN={secret}", "slurm_comment": secret, "gpus": 1},
    )
    stored = made.stored()
    assert secret not in json.dumps(stored) and secret not in made.model_dump_json()
    assert stored["vllm_options"]["nested"] == {"hf_token": HIDDEN, "keys": [HIDDEN]}
    assert stored["vllm_options"]["max_num_seqs"] == 4
    assert stored["cluster_options"]["setup"] == HIDDEN
    assert stored["cluster_options"]["more"] == {"comment": HIDDEN}
    assert "output_dir" not in stored and "/home/anna" not in json.dumps(stored)
    assert made.cluster_options.setup == f"export HF_TOKEN={secret}", "jobs are given it whole"


def test_the_identity_leaves_runtime_fields_out_and_the_shared_one_the_grid_too():
    made = suite(output_dir="elsewhere")
    assert "output_dir" not in made.identity()
    assert made.identity()["seeds"] == 1
    assert not {"seeds", "methods", "tasks", "learning_rate"} & set(made.shared_identity())
    assert made.shared_identity()["max_steps"] == 50


def test_a_later_field_enters_the_identity_only_when_it_is_not_at_its_default():
    default = Suite.model_fields["lora_rank"].default
    assert "lora_rank" not in suite().identity() and suite().lora_rank == default
    assert suite(lora_rank=8).identity()["lora_rank"] == 8


def test_all_bad_settings_are_reported_at_once():
    told = refused(seeds=0, batch_sise=3, temperature="hot", tasks=[])
    assert told.startswith("a test: 4 settings cannot be used")
    assert "batch_sise: no such setting; did you mean 'batch_size'?" in told
    assert "seeds: must be 1 or more; allowed: from 1 to 10,000 (given: 0)" in told
    assert "temperature: must be a number; allowed: 0.01 or more (given: 'hot')" in told
    assert "tasks: " in told


def test_a_missing_setting_says_what_it_is():
    with pytest.raises(ConfigError, match="methods: missing; Methods to compare"):
        make_suite({"tasks": ["rule_math"]}, "a test")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"methods": ["opcd", "opcd"]}, "a name is there twice"),
        ({"learning_rate": [1e-4, -1e-4]}, "a learning rate must be above 0"),
        ({"learning_rate": [1e-4, 1e-4]}, "a learning rate is given twice"),
        ({"learning_rate": float("nan")}, "above 0"),
        ({"seeds": True}, "whole number"),
        ({"seeds": 2.0}, "whole number"),
        ({"bf16": "yes"}, "must be true or false"),
        ({"top_p": 0}, "must be above 0"),
        ({"choose": 7}, "choose = 7 is not an evaluated step"),
        ({"choose": 60}, "is outside 0 … max_steps = 50"),
        ({"warmup_steps": 51}, "exceeds max_steps"),
        ({"lora_alpha": 8}, "lora_alpha has no effect without lora_rank; add lora_rank = 16"),
        ({"lora_target_modules": "q_proj"}, "lora_target_modules has no effect without lora_rank"),
        ({"lora_rank": 0}, "must be 1 or more"),
        ({"optim": "sgd"}, "'adamw' or 'adamw_8bit'"),
        ({"attn_implementation": "flash"}, "'flash_attention_2'"),
        ({"headline_learning_rate": 1e-4}, "together, or neither"),
        (
            {"learning_rate": [1e-4], "headline_learning_rate": 1e-3, "sweep_seeds": 1},
            "is not among learning_rate",
        ),
        (
            {"learning_rate": [1e-4], "headline_learning_rate": 1e-4, "sweep_seeds": 2},
            "sweep_seeds = 2 exceeds seeds = 1",
        ),
    ],
)
def test_each_bad_value_has_its_reason(values, told):
    assert told in refused(**values)


def test_values_are_taken_as_toml_writes_them():
    made = suite(learning_rate=1, methods="opcd, jsd", temperature=1, choose=20)
    assert made.learning_rate == (1.0,)
    assert made.methods == ("opcd", "jsd")
    assert made.temperature == 1.0 and isinstance(made.temperature, float)
    assert made.choose == 20


def test_a_suite_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        suite().seeds = 3


def test_dev_is_scored_at_the_start_at_every_interval_and_at_the_end():
    assert suite(max_steps=25, eval_steps=10).evaluated_steps() == (0, 10, 20, 25)
    assert suite(max_steps=0).evaluated_steps() == (0,)


def test_a_digest_depends_on_values_and_not_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert canonical({"b": "é", "a": None}) == '{"a":null,"b":"é"}'
    with pytest.raises(ValueError, match=r"nan|NaN|JSON"):
        canonical(float("nan"))


def test_what_is_trained_on_cannot_be_retention_too():
    """Retention is scored along the way, on its test split: the choice must come before that."""
    with pytest.raises(ConfigError, match="rule_math cannot be trained on and be a retention task"):
        make_suite({"methods": "opcd", "tasks": "rule_math", "retention": "rule_math"}, "here")


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"batch_size": 0}, r"task_settings\.lake\.batch_size: .*must be 1 or more"),
        ({"batch_size": "8"}, r"task_settings\.lake\.batch_size: .*whole number"),
        ({"max_steps": 1}, r"task_settings\.lake: warmup_steps = 2 exceeds max_steps = 1"),
    ],
)
def test_a_tasks_own_settings_are_checked_when_the_suite_is_made(own, told):
    values = {"methods": "opcd", "tasks": "lake", "warmup_steps": 2, "task_settings": {"lake": own}}
    with pytest.raises(ConfigError, match=told):
        make_suite(values, "here")


def test_vllm_and_several_processes_and_its_reserved_options_are_refused():
    assert "set jobs = 1" in refused(engine="vllm", jobs=2)
    assert "set jobs = 1" in refused(teacher_engine="vllm", jobs=2)
    assert suite(teacher_engine="vllm", teacher_url="http://127.0.0.1:1", jobs=2).jobs == 2
    assert "vllm_options.dtype" in refused(engine="vllm", vllm_options={"dtype": "float16"})
