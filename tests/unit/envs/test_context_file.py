"""The file of a context: what is read, what is refused, and that an edit is noticed."""

import json

import pytest

from opcd_bench.envs import context_file
from opcd_bench.envs.context_file import ContextFile, read, resolve, write
from opcd_bench.envs.task import Context
from opcd_bench.errors import DataError

MADE = ContextFile(
    "- EXPERIENCE ITEM: é", "user", ("é",), {"seed": 3, "model": {"model": "micro-small"}}
)


def test_what_is_written_is_read_back_and_a_second_write_has_the_same_bytes(tmp_path):
    file = tmp_path / "deep" / "a.json"
    write(file, MADE)
    before = file.read_bytes()
    write(file, MADE)
    assert read(file) == MADE
    assert file.read_bytes() == before
    stored = json.loads(before)
    assert stored["version"] == 1
    assert stored["hash"] == Context(MADE.text, "user").hash


def test_a_text_file_is_told_as_it_is_without_the_white_space_around_it(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("\n  Be brief.\n\nAnswer in {braces}.  \n")
    assert read(file) == ContextFile("Be brief.\n\nAnswer in {braces}.")


def test_a_json_context_of_ones_own_needs_version_and_text_alone(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"version": 1, "text": "Be brief."}')
    assert read(file) == ContextFile("Be brief.")


def test_a_byte_order_mark_is_no_part_of_a_context(tmp_path):
    for name, text in (("a.txt", "Be brief."), ("a.json", '{"version": 1, "text": "Be brief."}')):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read(tmp_path / name) == ContextFile("Be brief.")


@pytest.mark.parametrize("code", [0x00, 0x07, 0x1B, 0x7F, 0xFEFF])
def test_what_no_one_can_see_is_refused_with_its_line(tmp_path, code):
    text = f"Be brief.\nAnd{chr(code)} kind.\tAlways."
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps({"version": 1, "text": text}))
    for file in tmp_path.iterdir():
        with pytest.raises(DataError, match=rf"line 2 holds the invisible character U\+{code:04X}"):
            read(file)


def test_half_a_character_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"version": 1, "text": "a \\ud800 b"}')
    with pytest.raises(DataError, match=r"U\+D800"):
        read(tmp_path / "a.json")


def test_what_a_model_wrote_is_read_as_it_was_made(tmp_path):
    made = ContextFile("- EXPERIENCE ITEM: a\x07b", "user")
    write(tmp_path / "a.json", made)
    assert read(tmp_path / "a.json") == made


def test_an_edited_text_is_refused_because_its_provenance_is_anothers(tmp_path):
    file = tmp_path / "a.json"
    write(file, MADE)
    file.write_text(file.read_text().replace("EXPERIENCE ITEM", "ITEM OF EXPERIENCE"))
    with pytest.raises(DataError, match=r"changed after it was made.*save the text as a \.txt"):
        read(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{half", "not valid JSON"),
        ("[]", "it holds a list, not an object"),
        ('{"text": "a"}', "its version is None"),
        (
            '{"version": 2, "text": "a"}',
            'its version is 2, but this opcd-bench reads version 1. A context is {"version": 1, ',
        ),
        ('{"version": 1}', 'it has no "text"'),
        ('{"version": 1, "text": 3}', 'it has no "text"'),
        ('{"version": 1, "text": "a", "txet": "b"}', "it has a key 'txet', which does not exist"),
        ('{"version": 1, "text": "a", "placement": "middle"}', "allowed: system, user, inside"),
        ('{"version": 1, "text": "a", "items": "b"}', '"items" is not a list of texts'),
        ('{"version": 1, "text": "a", "provenance": []}', '"provenance" is not an object'),
        ('{"version": 1, "text": " "}', "it is empty"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_its_name_and_the_reason(tmp_path, text, told):
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read(file)
    assert told in str(caught.value) and str(file) in str(caught.value)


def test_bytes_that_are_no_utf_8_are_refused(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes("für".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8 \(byte 1\)"):
        read(file)


def test_a_file_that_is_absent_says_where_it_was_looked_for_and_what_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        resolve("contexts/x.json")
    told = str(caught.value)
    assert "contexts/x.json" in told and "data/contexts/x.json" in told
    assert "opcd-bench extract" in told


def test_a_folder_in_a_contexts_place_names_the_files_in_it(tmp_path):
    write(tmp_path / "s000.json", MADE)
    with pytest.raises(DataError, match=r"is a folder, not a file; it holds s000\.json"):
        resolve(str(tmp_path))


def test_a_prompt_that_ships_is_found_by_its_name_unless_there_is_one_here(tmp_path, monkeypatch):
    import opcd_bench.tasks

    package, here = tmp_path / "package", tmp_path / "here"
    for folder, text in ((package / "data" / "prompts", "shipped"), (here / "prompts", "mine")):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(text)
    (package / "data" / "prompts" / "b.txt").write_text("shipped too")
    monkeypatch.setattr(opcd_bench.tasks, "__path__", [str(package)])
    monkeypatch.chdir(here)
    assert context_file.read(resolve("prompts/a.txt")).text == "mine"
    assert context_file.read(resolve("prompts/b.txt")).text == "shipped too"
