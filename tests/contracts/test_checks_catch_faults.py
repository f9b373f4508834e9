"""A contract that no fault can break is worth nothing: each one is broken here on purpose."""

import dataclasses
import re
from typing import ClassVar

import pytest
import torch

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import TokenLoss
from opcd_bench.distillation.losses.scheduled import forms
from opcd_bench.distillation.method import STUDENT, Method
from opcd_bench.envs.task import (
    BestPossible,
    Context,
    Episode,
    Example,
    Floor,
    Grade,
    Task,
    Turn,
)
from opcd_bench.envs.thinking import without_thinking
from opcd_bench.runner import audit_batch, registry
from opcd_bench.runner.contracts.checks import KNOWN_BY, READ, check_file
from opcd_bench.runner.contracts.method_checks import METHOD_CONTRACTS
from opcd_bench.runner.contracts.task_checks import TASK_CONTRACTS


def broken_by(contracts, plugin):
    """The contracts that the plugin breaks, by their sentence."""
    from opcd_bench.runner.contracts.contract import results

    return {
        result.says: result.detail for result in results(contracts, plugin) if not result.passed
    }


def kl(student, teacher):
    """The full reverse KL, per token."""
    p, logp, logq = student.softmax(-1), student.log_softmax(-1), teacher.log_softmax(-1)
    return (p * (logp - logq)).sum(-1)


def with_loss(loss):
    return Method("mine", "a test's", "a test", STUDENT, loss)


def right(student, teacher, ids):
    value = kl(student, teacher)
    return TokenLoss(value, value.detach())


def pushed_away(student, teacher, ids):
    value = kl(student, teacher)
    return TokenLoss(-value, value.detach())


def reduced(student, teacher, ids):
    value = kl(student, teacher).mean()
    return TokenLoss(value, value.detach())


def attached(student, teacher, ids):
    value = kl(student, teacher)
    return TokenLoss(value, value)


def unnormalised(student, teacher, ids):
    value = ((student - teacher) ** 2).sum(-1)
    return TokenLoss(value, value.detach())


def batch_centred(student, teacher, ids):
    value = kl(student, teacher)
    return TokenLoss(value - value.mean(), (value - value.mean()).abs().detach())


def noisy(student, teacher, ids):
    value = kl(student, teacher) * (1 + 0.01 * torch.rand(()))
    return TokenLoss(value, value.detach())


def shifted(student, teacher, ids):
    value = kl(student, teacher)
    return TokenLoss(value, value.detach() + 0.1)


def overflowing(student, teacher, ids):
    p, q = student.softmax(-1), teacher.softmax(-1)
    value = (p * (p.log() - q.log())).sum(-1).float()
    return TokenLoss(value, value.detach())


def leaving(student, teacher, ids):
    raise SystemExit(7)


def one_value(student, teacher, ids):
    return kl(student, teacher)


def test_a_right_loss_of_ones_own_keeps_every_contract():
    assert broken_by(METHOD_CONTRACTS, with_loss(right)) == {}


@pytest.mark.parametrize(
    ("loss", "says", "detail"),
    [
        (pushed_away, "its expected gradient pulls towards the teacher", "is a sign wrong?"),
        (reduced, "its loss gives two values for each token", "never reduces"),
        (attached, "its loss gives two values for each token", "detached"),
        (one_value, "its loss gives two values for each token", "TokenLoss"),
        (unnormalised, "its logit gradient sums to zero at every position", "sums to"),
        (batch_centred, "each token's loss reads its own position alone", "at another"),
        (noisy, "the same tensors give the same values", "two gradients"),
        (shifted, "its divergence is zero where teacher = student", "not 0"),
        (leaving, "its values and gradients are finite", "SystemExit: 7"),
        (overflowing, "its values and gradients are finite", "not finite"),
    ],
)
def test_a_wrong_loss_breaks_the_contract_that_names_its_fault(loss, says, detail):
    broken = broken_by(METHOD_CONTRACTS, with_loss(loss))
    assert says in broken
    assert detail in broken[says]


class Fading:
    """A loss that changes from one divergence to another, rightly, and with one fault a name."""

    id, metric, teacher_needs, on_policy_only = "fading", "reverse_kl", "F", False

    def __init__(self, fault=""):
        self.fault = fault

    def begin(self):
        return {"share": 0.0}

    def at(self, state, progress):
        if self.fault == "ends badly" and state["share"] > 0.9:
            return pushed_away
        return named("rkl_full") if state["share"] < 0.5 else named("fkl_full")

    def after(self, state, progress, value):
        if self.fault == "changes":
            state["share"] = progress
            return state
        share = float(torch.rand(())) if self.fault == "random" else progress
        return {"share": f"{share}"} if self.fault == "words" else {"share": share}

    def describe(self):
        return {"id": self.id, "fault": self.fault}


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ("changes", "changes the state that it is given"),
        ("random", "two states for the same step"),
        ("words", "'share'; it is the same few numbers"),
        ("ends badly", "is a sign wrong?"),
    ],
)
def test_a_loss_that_changes_is_tried_to_its_end_and_keeps_its_state_pure(fault, detail):
    says = "its state is numbers that each step makes anew"
    assert says not in broken_by(METHOD_CONTRACTS, with_loss(Fading()))
    assert detail in broken_by(METHOD_CONTRACTS, with_loss(Fading(fault)))[says]


def test_a_contributed_loss_that_changes_is_audited_at_both_ends():
    assert [form.id for form in forms(with_loss(Fading()).loss)] == ["rkl_full", "fkl_full"]
    assert [name for name, _ in audit_batch._audited(with_loss(Fading()))] == [
        "mine, first step", "mine, last step",
    ]  # fmt: skip


def test_a_loss_that_is_broken_by_construction_fails_as_a_contender_and_passes_as_a_control():
    control = registry.method("control_k1")
    contender = dataclasses.replace(control, control=False)
    assert broken_by(METHOD_CONTRACTS, control) == {}
    assert list(broken_by(METHOD_CONTRACTS, contender)) == [
        "its expected gradient pulls towards the teacher"
    ]


class Reply(Episode):
    def __init__(self, example):
        self.messages = ({"role": "user", "content": f"Code of {example.content['n']}?"},)
        self.right, self.reply = example.reference, None

    def step(self, reply):
        self.reply = without_thinking(reply)
        return Turn(tuple(self.messages), done=True)

    def grade(self):
        return Grade(float(self.reply == self.right), self.reply, "compared")


class Codes(Task):
    name, version, summary = "codes", 1, "Codes of numbers."
    ranges: ClassVar = {"train": range(10), "dev": range(10, 14), "test": range(14, 18)}

    def context(self):
        return Context("The code of a number is the number plus seven.")

    def examples(self, split):
        return [Example({"n": n}, reference=str(n + 7)) for n in self.ranges[split]]

    def open(self, example, seed):
        return Reply(example)

    def floors(self, examples):
        return [Floor("constant", 1 / len(examples), "one code is right once")]

    def best_possible(self, examples):
        return BestPossible(1.0, "by construction")


class Overlapping(Codes):
    ranges: ClassVar = {"train": range(10), "dev": range(9, 14), "test": range(14, 18)}


class Leaking(Codes):
    def open(self, example, seed):
        episode = Reply(example)
        told = f"{self.context().text}\n{episode.messages[0]['content']}"
        episode.messages = ({"role": "user", "content": told},)
        return episode


class Reordering(Codes):
    calls = 0

    def examples(self, split):
        Reordering.calls += 1
        return sorted(super().examples(split), key=lambda e: e.id, reverse=self.calls % 2 == 0)


class Endless(Codes):
    def open(self, example, seed):
        episode = Reply(example)
        episode.step = lambda reply: Turn(tuple(episode.messages), done=False)
        return episode


class Moody(Codes):
    calls = 0

    def open(self, example, seed):
        Moody.calls += 1
        episode = Reply(example)
        why = f"opened {Moody.calls} times"
        episode.grade = lambda: Grade(0.0, None, why)
        return episode


class Generous(Codes):
    def open(self, example, seed):
        episode = Reply(example)
        episode.grade = lambda: Grade(1.0, None, "well done")
        return episode


class Crashing(Codes):
    def open(self, example, seed):
        episode = Reply(example)
        episode.grade = lambda: Grade(float(int(episode.reply or 0) > 0), None, "a number")
        return episode


class Overbearing(Codes):
    def open(self, example, seed):
        episode = Reply(example)
        episode.grade = lambda: Grade(0.0, None, "wrong", {"accuracy": 1.0})
        return episode


class Reading(Codes):
    """Grades whatever number stands last, thought or not."""

    def open(self, example, seed):
        episode = Reply(example)

        def step(reply):
            episode.reply = (re.findall(r"\d+", reply) or ["none"])[-1]
            return Turn(tuple(episode.messages), done=True)

        episode.step = step
        return episode


class Distracted(Codes):
    """Does not find an answer that stands behind a thought."""

    def open(self, example, seed):
        episode = Reply(example)

        def step(reply):
            hidden = "</think>" in reply and reply[-1].isdigit()
            episode.reply = "thought" if hidden else without_thinking(reply)
            return Turn(tuple(episode.messages), done=True)

        episode.step = step
        return episode


class Boastful(Codes):
    def floors(self, examples):
        return [Floor("constant", 1.5, "guessed")]


class Telling(Codes):
    def open(self, example, seed):
        episode = Reply(example)
        episode.feedback = lambda: f"wrong: it was {example.reference}"
        return episode


class Open(Codes):
    leak_patterns = ("Code|number",)


class Unclosed(Codes):
    leak_patterns = ("(rule",)


class Wordless(Codes):
    def open(self, example, seed):
        episode = Reply(example)
        episode.step = lambda reply: Turn(None, done=True)
        return episode


class Unlisted(Codes):
    """A game in small: its actions stand in no prompt, and it has no reference answer."""

    def examples(self, split):
        return [Example({"n": n}) for n in self.ranges[split]]

    def open(self, example, seed):
        episode = Reply(example)

        def step(reply):
            episode.right = "[zig]" in reply
            return Turn((), done=True)

        episode.step = step
        episode.grade = lambda: Grade(float(episode.right is True), None, "played")
        return episode


def test_a_right_task_keeps_every_contract():
    assert broken_by(TASK_CONTRACTS, Codes()) == {}


@pytest.mark.parametrize(
    ("task", "says", "detail"),
    [
        (Overlapping, "its splits are disjoint by content and not empty", "disjoint"),
        (Leaking, "no sentence of its context is in a prompt without it", "number plus seven"),
        (Open, "what only its readers would say is in no prompt without it", "Code|number"),
        (Unclosed, "what only its readers would say is in no prompt without it", "(rule"),
        (Reordering, "its examples keep their ids and their order", "another order"),
        (Endless, "its episodes keep the protocol for any reply", "not over after max_turns"),
        (Moody, "the same seed and replies give the same episode", "two episodes"),
        (Wordless, "its episodes keep the protocol for any reply", "at the end () or the last"),
        (Generous, "its episodes keep the protocol for any reply", "not lost"),
        (Crashing, "its episodes keep the protocol for any reply", "ValueError"),
        (Overbearing, "its episodes keep the protocol for any reply", "also has 'accuracy'"),
        (Reading, "what is thought in a reply is never graded", "is graded 1.0 (answer"),
        (Distracted, "what is thought in a reply is never graded", "without what is thought"),
        (Telling, "its feedback on wrong attempts does not say the answer", "18 of 18"),
        (Boastful, "its floors and best possible score lie in 0 … 1, and say how computed", "1.5"),
    ],
)
def test_a_wrong_task_breaks_the_contract_that_names_its_fault(task, says, detail):
    broken = broken_by(TASK_CONTRACTS, task())
    assert says in broken
    assert detail in broken[says]


def test_a_contract_that_tried_nothing_says_so():
    from opcd_bench.runner.contracts.contract import results

    details = {result.says: result.detail for result in results(TASK_CONTRACTS, Unlisted())}
    assert "NOT TESTED" in details["what is thought in a reply is never graded"]
    details = {result.says: result.detail for result in results(TASK_CONTRACTS, Codes())}
    assert "behind a wrong thought" in details["what is thought in a reply is never graded"]


@pytest.mark.parametrize(
    ("text", "says", "detail"),
    [
        ("import torch\nMETHOD = 1\n", "imports nothing heavy and no other plugin", "line 1"),
        ("import numpy\nMETHOD = 1\n", "imports nothing heavy and no other plugin", "numpy"),
        (
            "from opcd_bench.baselines.opcd import METHOD\n",
            "imports nothing heavy and no other plugin",
            "another plugin",
        ),
        *(
            (f"{line}\nMETHOD = 1\n", "imports nothing heavy and no other plugin", "imports names")
            for line in (
                "from opcd_bench.distillation.method import Method",
                "from opcd_bench import errors",
                "import opcd_bench.seeds",
            )
        ),
        (
            "from opcd_bench.distillation.losses import functional\nMETHOD = 1\n",
            "loads in a fresh interpreter without torch",
            "torch",
        ),
        ("x = 1\n", "opens with one sentence that says what it is for", "one sentence"),
        ("x = 1\n", "loads, and holds a METHOD or a TASK of the file's name", "neither"),
        (
            "1 / 0\n",
            "loads, and holds a METHOD or a TASK of the file's name",
            "ZeroDivisionError",
        ),
        ("def (:\n", "loads, and holds a METHOD or a TASK of the file's name", "SyntaxError"),
    ],
)
def test_a_wrong_file_breaks_the_contract_that_names_its_fault(tmp_path, text, says, detail):
    file = tmp_path / "mine.py"
    file.write_text(text)
    broken = {r.says: r.detail for r in check_file(file) if not r.passed}
    assert says in broken
    assert detail in broken[says]


CHANGING = '''"""A loss that changes with training, wrongly."""
import os
from opcd_bench import STUDENT, Method, named
class Ramp:
    metric = "ramp"
    def __init__(self, start):
        self.start = start
    def begin(self):
        return {"beta": 0.1}
    def at(self, state, progress):
        return named("jsd_b", beta=state["beta"])
    def after(self, state, progress, value):
        return {"beta": 0.1 + 0.8 * progress}
METHOD = Method("mine", "A test's.", "a test", STUDENT, Ramp(0.5))
'''


@pytest.mark.parametrize(
    ("old", "new", "broken"),
    [
        ("Ramp(0.5)", "Ramp(0.6)", {}),
        ("Ramp(0.5)", "Ramp(os.getpid())", {KNOWN_BY: "method.loss.values.start"}),
        ("{\"beta\": 0.1}", "self.__dict__.update(start=1) or {\"beta\": 0.1}",
         {KNOWN_BY: "method.loss.values.start: 0.5 -> 1"}),
        ("Ramp(0.5)", "Ramp(object())",
         {"describes itself in JSON values": "start is an object", KNOWN_BY: "start is an object"}),
    ],
)  # fmt: skip
def test_a_loss_whose_identity_moves_breaks_a_contract(tmp_path, old, new, broken):
    file = tmp_path / "mine.py"
    assert CHANGING.count(old) == 1
    file.write_text(CHANGING.replace(old, new))
    found = {r.says: r.detail for r in check_file(file) if not r.passed}
    assert found.keys() == broken.keys()
    assert all(told.removeprefix("method.") in found[says] for says, told in broken.items())


READING = '''"""Questions in files."""
from pathlib import Path
from opcd_bench import Context, DataTask, Grade
class Mine(DataTask):
    name, version, summary = "mine", 1, "Questions."
    def context(self):
        return Context("Answer.")
    @classmethod
    def load(cls, data_dir):
        return Path(data_dir) / "train.jsonl" / 3
    def question(self, example):
        return "?"
    def graded(self, example, reply):
        return Grade(0.0, "", "wrong")
TASK = Mine
'''


@pytest.mark.parametrize(("given", "told"), [(False, "data_dir is None.*--data-dir"), (True, "")])
def test_what_loading_raises_is_the_files_and_says_where(tmp_path, given, told):
    file = tmp_path / "mine.py"
    file.write_text(READING)
    *_, last = check_file(file, str(tmp_path) if given else None)
    assert (last.says, last.passed) == (READ, False)
    assert re.match(rf"TypeError: .*\(mine.py, line 10\).*{told}", last.detail)
    assert ("no folder was given" in last.detail) is not given


def test_a_file_with_the_name_of_a_method_that_exists_is_refused(tmp_path):
    file = tmp_path / "opcd.py"
    file.write_text(registry.plugin_files(registry.METHODS_PACKAGE)["opcd"].read_text())
    broken = {r.says: r.detail for r in check_file(file) if not r.passed}
    assert list(broken) == ["no other file has its name"]
