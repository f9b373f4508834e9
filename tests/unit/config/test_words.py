"""The words of a suite: names, parameters in brackets, and files."""

from pathlib import Path

import pytest

from opcd_bench.config import words
from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.config.suite_file import read
from opcd_bench.errors import ConfigError
from opcd_bench.store.suite_dir import checked_name


def suite(**values) -> Suite:
    return make_suite({"methods": ["opcd"], "tasks": ["rule_math"], **values}, "a test")


def test_commas_inside_brackets_belong_to_their_word():
    assert words.split("opcd[k=4,support=union], opcd ,,./a.py[k=2]") == [
        "opcd[k=4,support=union]", "opcd", "./a.py[k=2]",
    ]  # fmt: skip
    assert words.split("") == []


@pytest.mark.parametrize("text", ["opcd[k=4", "opcd]", "opcd[k=4]]", "opcd[[k=4]]"])
def test_a_bracket_without_a_partner_is_named(text):
    with pytest.raises(ValueError, match="a bracket has no partner"):
        words.split(text)


@pytest.mark.parametrize(
    ("text", "name", "parameters", "file"),
    [
        ("opcd", "opcd", {}, None),
        (" opcd[ k = 4 , support=union ] ", "opcd", {"k": "4", "support": "union"}, None),
        ("./mine.py", "mine", {}, "./mine.py"),
        ("mine.py[k=4]", "mine", {"k": "4"}, "mine.py"),
        ("/a/b/mine.py", "mine", {}, "/a/b/mine.py"),
        ("folder/mine", "mine", {}, "folder/mine"),
        ("./dir[1]/mine.py", "mine", {}, "./dir[1]/mine.py"),
        ("..\\mine.py", "mine", {}, "..\\mine.py"),
    ],
)
def test_a_word_is_a_name_or_a_file_and_may_have_parameters(text, name, parameters, file):
    assert words.parse(text) == words.Word(name, parameters, file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("opcd[]", "without parameters leave them out"),
        ("opcd[k]", "brackets hold name=value, separated by commas: opcd[k=4]"),
        ("opcd[k=]", "name=value"),
        ("opcd[=4]", "name=value"),
        ("opcd[k=4,]", "name=value"),
        ("opcd[k=4,k=5]", "k is there twice"),
        ("opcd[k=4]x", "a bracket has no partner"),
        ("[k=4]", "no name stands before the brackets"),
    ],
)
def test_each_fault_of_a_word_has_its_reason(text, told):
    with pytest.raises(ValueError, match=r".") as caught:
        words.parse(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("opcd", "opcd"),
        ("opcd[k=4]", "opcd-k4"),
        ("opcd[support=union,k=4]", "opcd-k4-support_union"),
        ("opcd_ema[rate=0.9]", "opcd_ema-rate0.9"),
        ("pg[baseline=-1.5,importance_weight=true]", "pg-baseline-1.5-importance_weight_true"),
        ("x[rate=1e-05]", "x-rate1e-05"),
        ("x[weights=a/b c]", "x-weights_a_b_c"),
    ],
)
def test_a_word_in_a_folders_name_is_safe_there_and_has_no_double_dash(text, slug):
    found = words.parse(text).slug
    assert found == slug
    assert checked_name(f"rule_math--{found}--lr1e-04--s0--0123456789").split("--")[1] == found


def test_a_slug_of_many_parameters_is_cut_since_the_hash_tells_methods_apart():
    word = words.Word("opcd", {f"parameter_{n}": "a_long_value" for n in range(40)})
    assert len(word.slug) <= words.LONGEST_SLUG and not word.slug.endswith("-")


def test_a_suite_keeps_names_and_beside_them_where_files_lie():
    made = suite(methods="opcd,./a/mine.py[k=4,beta=0.5]", tasks=["../t/codes.py", "rule_math"])
    assert made.methods == ("opcd", "mine[beta=0.5,k=4]")
    assert made.method_files == {"mine": "a/mine.py"}
    assert made.tasks == ("codes", "rule_math")
    assert made.task_files == {"codes": "../t/codes.py"}
    assert Suite.model_validate(made.model_dump()) == made
    assert made.for_task("codes") == made


def test_one_file_may_be_named_often_and_two_of_one_name_may_not():
    assert suite(methods=["./mine.py", "mine.py[k=4]", "mine[k=5]"]).method_files == {
        "mine": "mine.py"
    }
    with pytest.raises(ConfigError, match="another file is called mine too"):
        suite(methods=["./a/mine.py", "./b/mine.py"])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"methods": ["opcd[k=4]", "opcd[k=4]"]}, "a name is there twice: opcd[k=4]"),
        ({"methods": "opcd[k=4,beta=1],opcd[beta=1,k=4]"}, "there twice: opcd[beta=1,k=4]"),
        ({"methods": ["./mine.py", "mine"]}, "a name is there twice: mine"),
        ({"methods": "opcd[k=4"}, "methods: 'opcd[k=4': a bracket has no partner"),
        ({"tasks": "rule_math[n=4]"}, "only methods take parameters"),
        ({"methods": ["opcd", 3]}, "methods.1: must be text"),
        ({"methods": 3}, "methods: must be a list"),
        ({"retention": ["./mine.py"]}, "a Python file can be one of the tasks only"),
    ],
)
def test_words_that_cannot_be_used_are_refused_with_the_others_of_a_suite(values, told):
    with pytest.raises(ConfigError) as caught:
        suite(**values, seeds=0)
    assert told in str(caught.value)
    assert "2 settings cannot be used" in str(caught.value)


def test_paths_in_a_suites_file_begin_in_its_folder_and_those_of_the_command_line_do_not(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'methods = ["./methods/mine.py[k=4]", "opcd", "/abs/other.py"]\ntasks = "codes.py"\n'
        '[sizes.smoke]\nmethods = ["small.py"]\n'
    )
    made = read(file).suite()
    assert made.method_files == {
        "mine": str(tmp_path / "methods/mine.py"), "other": "/abs/other.py",
    }  # fmt: skip
    assert made.task_files == {"codes": str(tmp_path / "codes.py")}
    assert read(file).suite("smoke").method_files == {"small": str(tmp_path / "small.py")}
    over = read(file).suite(overrides={"methods": ["./here.py"]})
    assert over.method_files == {"here": "here.py"}


def test_a_relative_suite_file_gives_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text('methods = ["./mine.py"]\ntasks = ["rule_math"]\n')
    assert read(Path("s.toml")).suite().method_files == {"mine": "mine.py"}
