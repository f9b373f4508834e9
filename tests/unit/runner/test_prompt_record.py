"""What is found out about a suite's prompts before anything is scored, and what is kept of it."""

import dataclasses
import types

import pytest
from fixtures import CHATML, tiny_model, tiny_tokenizer
from toy import Toy

from opcd_bench.envs.task import Context, Contexts, Turn
from opcd_bench.errors import DataError, StoreError
from opcd_bench.models.loading import assemble
from opcd_bench.progress import QuietReporter
from opcd_bench.runner import prompt_record
from opcd_bench.store.suite_dir import SuiteDir

DROPS = CHATML.replace(
    "{% for message in messages %}", "{% for message in messages if message.role != 'system' %}"
)
OWN = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are Tiny.<|im_end|>\n{% endif %}"
    + CHATML
)


def models(template=CHATML, **values):
    """What the record asks of a suite's models."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    loaded = dataclasses.replace(assemble("m", tiny_model(), tokenizer), **values)
    return types.SimpleNamespace(
        initial=loaded, suite=types.SimpleNamespace(teacher_model=None), larger=None
    )


def checked(bench, folder, task=None, console=None):
    """The record of the toy task, stored."""
    suite_dir = SuiteDir(folder)
    found = prompt_record.checked({"toy": task or Toy()}, bench, suite_dir, console)
    suite_dir.merge({"methods": [], "tasks": [], **found})
    return found


def test_the_prompts_of_every_split_are_known_with_and_without_context(tmp_path):
    found = checked(models(), tmp_path / "a")
    ((name, splits),) = found["prompts"].items()
    assert name.startswith("toy--") and list(found) == ["prompts"]
    assert set(splits) == {"train", "dev", "test"}
    assert all(set(one) == {"without context", "with context"} for one in splits.values())
    hashes = [text for one in splits.values() for text in one.values()]
    assert len(set(hashes)) == 6
    assert checked(models(), tmp_path / "a") == found, "the same again"


@pytest.mark.parametrize("other", [CHATML + "!", CHATML.replace("system", "System") + " "])
def test_other_prompts_are_refused_where_runs_read_these(tmp_path, other):
    checked(models(), tmp_path / "a")
    with pytest.raises(StoreError, match=r"other prompts of task 'toy' \(train, without context\)"):
        checked(models(other), tmp_path / "a")


def test_a_suite_from_before_there_was_a_record_goes_on(tmp_path):
    SuiteDir(tmp_path / "a").merge({"methods": [], "tasks": [], "weights": "0" * 64})
    assert checked(models(CHATML + "!"), tmp_path / "a")["prompts"]


def test_another_context_is_another_record_and_refuses_nothing(tmp_path):
    checked(models(), tmp_path / "a")
    told = Toy().telling(Contexts((Context("Something else."),)))
    checked(models(), tmp_path / "a", told)
    assert len(SuiteDir(tmp_path / "a").read()["prompts"]) == 2


def test_a_context_that_the_template_leaves_out_is_refused(tmp_path):
    with pytest.raises(DataError, match="leaves the system message with the context out"):
        checked(models(DROPS), tmp_path / "a")
    placed = Toy().telling(Contexts((Context("Told.", "user"),)))
    assert checked(models(DROPS), tmp_path / "a", placed)


def test_a_system_prompt_that_the_context_replaces_is_recorded_and_said_once(tmp_path):
    console = QuietReporter()
    found = checked(models(OWN), tmp_path / "a", console=console)
    assert found["replaced_system_prompt"] == {"m": "You are Tiny."}
    (line,) = console.warnings
    assert "(You are Tiny.)" in line and "context_placement = 'user' keeps both" in line
    placed = Toy().telling(Contexts((Context("Told.", "user"),)))
    assert "replaced_system_prompt" not in checked(models(OWN), tmp_path / "b", placed)


def test_an_end_that_nobody_names_is_recorded_and_said(tmp_path):
    console = QuietReporter()
    found = checked(models(added_end="<|im_end|>"), tmp_path / "a", console=console)
    assert found["added_end"] == {"m": "<|im_end|>"}
    assert "responses end there too" in console.warnings[0]


def test_a_suite_keeps_the_day_of_its_first_run(tmp_path):
    dated = "{{ strftime_now('%d %b %Y') }}" + CHATML
    suite_dir = SuiteDir(tmp_path / "a")
    assert len(prompt_record.date_of(suite_dir)) == 10
    found = checked(models(dated, date="2024-02-29"), tmp_path / "a")
    assert found["template_date"] == "2024-02-29" == prompt_record.date_of(suite_dir)
    with pytest.raises(StoreError, match="other prompts"):
        checked(models(dated, date="2024-03-01"), tmp_path / "a")


class Game(Toy):
    """Two turns; the second shows the reply to the first."""

    max_turns = 2

    def open(self, example, seed):
        episode = super().open(example, seed)

        def step(reply):
            said = {"role": "assistant", "content": reply}
            episode.messages = [*episode.messages, said, {"role": "user", "content": "Go on."}]
            return Turn(tuple(episode.messages), done=False)

        episode.step = step
        return episode


def test_a_template_that_fails_on_a_later_turn_is_found_before_anything_is_scored(tmp_path):
    fails = CHATML + "{% for m in messages if m.role == 'assistant' %}{{ m.x.y }}{% endfor %}"
    assert checked(models(fails), tmp_path / "a")
    with pytest.raises(DataError, match=r"roles user, assistant, user .*UndefinedError"):
        checked(models(fails), tmp_path / "b", Game())


def test_what_a_task_s_own_code_raises_is_left_to_the_run(tmp_path):
    def broken(*_):
        raise RuntimeError("no board")

    assert checked(models(), tmp_path / "a", Toy(broken))
