"""A contributor's own loss is told from all others by its source and by the values in it."""

import functools
import importlib.util
import itertools
import json
import math
import sys

import pytest

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.own import described
from opcd_bench.distillation.method import STUDENT, Method, Stage
from opcd_bench.errors import InvalidLoss

NUMBERS = itertools.count()
FUNCTION = '''"""A loss."""
import opcd_bench as ob
from math import exp as f
SCALE = 2.0
TABLE = [1]
TABLE.append(SCALE)
def helper(x):
    return inner(x)
def inner(x):
    return x * TABLE[0]
def unused(x):
    return x
def loss(student, teacher, ids):
    return helper(f(student))
SUMMARY = "A summary."
'''
OBJECT = '''"""A loss."""
from dataclasses import dataclass
class Base:
    scale = 1.0
@dataclass(frozen=True)
class Power(Base):
    weight: float = 0.5
    def __call__(self, student, teacher, ids):
        return student
loss = Power()
OTHER = 3
'''


def loaded(tmp_path, text):
    """A module of this text, in a file and under a name of its own."""
    file = tmp_path / f"loss_{next(NUMBERS)}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # dataclasses look their module up while it loads
    spec.loader.exec_module(module)
    return module


def text_of(loss):
    return json.dumps(described(loss), allow_nan=False)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (FUNCTION, "helper(f(student))", "helper(f(teacher))"),
        (FUNCTION, "return inner(x)", "return inner(x) + 1"),
        (FUNCTION, "x * TABLE[0]", "x * TABLE[1]"),
        (FUNCTION, "SCALE = 2.0", "SCALE = 3.0"),
        (FUNCTION, "TABLE.append(SCALE)", "TABLE.append(7)"),
        (FUNCTION, "import exp as f", "import log as f"),
        (FUNCTION, "ids):", "ids, scale=2):"),
        (OBJECT, "Power()", "Power(50.0)"),
        (OBJECT, "weight: float = 0.5", "weight: float = 0.6"),
        (OBJECT, "return student", "return teacher"),
        (OBJECT, "scale = 1.0", "scale = 2.0"),
        (OBJECT, "OTHER = 3", "Power.scale = 3"),
    ],
)
def test_whatever_a_loss_uses_of_its_file_tells_it_apart(tmp_path, text, old, new):
    assert text.count(old) == 1
    before, after = (loaded(tmp_path, one).loss for one in (text, text.replace(old, new)))
    assert text_of(before) != text_of(after)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (FUNCTION, '"""A loss."""', '"""A better sentence."""'),
        (FUNCTION, "A summary.", "Another summary."),
        (FUNCTION, "def unused(x):\n    return x", "def unused(x):\n    return 2 * x"),
        (OBJECT, "OTHER = 3", "OTHER = 4"),
    ],
)
def test_what_it_does_not_use_leaves_it_the_same(tmp_path, text, old, new):
    assert text.count(old) == 1
    before, after = (loaded(tmp_path, one).loss for one in (text, text.replace(old, new)))
    assert text_of(before) == text_of(after)


class Plain:
    """As a contributor writes it: no dataclass, so its repr has its place in memory."""

    metric = "ramp"

    def __init__(self, end, **more):
        self.end = end
        self.__dict__.update(more)

    def begin(self):
        return {"beta": 0.1}

    def at(self, state, progress):
        return named("jsd_b", beta=state["beta"])

    def after(self, state, progress, value):
        return {"beta": 0.1 + self.end * progress}

    def method(self, student, teacher, ids):
        return student


class Slots:
    __slots__ = ("end",)

    def __init__(self, end):
        self.end = end

    def __call__(self, student, teacher, ids):
        return student


def function(student, teacher, ids, scale=1.0):
    return student


@pytest.mark.parametrize(
    "made",
    [
        Plain,
        Slots,
        lambda value: Plain(0.5, of=[named("jsd_b", beta=value), {"a": (value, None)}]),
        lambda value: Plain(value).method,
        lambda value: functools.partial(function, scale=value),
        lambda value: functools.partial(function, named("jsd_b", beta=value)),
    ],
)
def test_objects_of_equal_values_are_one_loss_and_of_others_another(made):
    one, same, other = (text_of(made(value)) for value in (0.5, 0.5, 0.6))
    assert one == same != other
    assert " at 0x" not in one


def test_a_plain_object_is_described_by_its_values():
    told = described(Plain(0.5, table=(1, 2), name="x"))
    assert told["callable"] == "Plain"
    assert told["values"] == {"end": 0.5, "table": [1, 2], "name": "x"}


def closure(weight):
    def loss(student, teacher, ids):
        return weight * student

    return loss


def class_with_closure(weight):
    class Loss:
        def __call__(self, student, teacher, ids):
            return weight * student

    return Loss()


class Listed(list):
    def __call__(self, student, teacher, ids):
        return student


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (closure(0.5), "reads weight of the function that made it"),
        (class_with_closure(0.5), "reads weight of the function that made it"),
        (functools.partial(closure(0.5)), "reads weight of the function that made it"),
        (Plain(object()), "Plain: end is an object"),
        (Plain({1, 2}), "Plain: end is a set"),
        (Plain(Plain(1)), "Plain: end is a Plain"),
        (Plain([1, math.nan]), r"Plain: end\[1\] is nan"),
        (Plain({"a": math.inf}), r"Plain: end\['a'\] is inf"),
        (Plain({1: 2}), "Plain: end is a dict"),
        (functools.partial(function, scale=object()), "function: argument.* is an object"),
        (Listed([1]), "is a list"),
    ],
)
def test_a_loss_whose_values_cannot_be_told_apart_is_refused_with_what_to_write(loss, told):
    method = Method("mine", "A test's.", "a test", STUDENT, loss)
    with pytest.raises(InvalidLoss, match=rf"method 'mine': the loss .*{told}.*frozen dataclass"):
        method.describe()


def test_the_loss_of_a_first_stage_is_known_as_the_last_one_is():
    begins = Stage(0.5, STUDENT, closure(0.5))
    method = Method("mine", "A test's.", "a test", STUDENT, named("rkl_full"), begins=begins)
    with pytest.raises(InvalidLoss, match="reads weight"):
        method.describe()


class NoMetric:
    def begin(self):
        return {}

    def at(self, state, progress):
        return named("rkl_full")

    def after(self, state, progress, value):
        return state


class NoMetricCalled(NoMetric):
    def __call__(self, student, teacher, ids):
        return student


class OnlyAt:
    metric = "reverse_kl"

    def at(self, state, progress):
        return named("rkl_full")


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (NoMetric(), r"begin and at and after and no metric .*metric = 'reverse_kl'"),
        (NoMetricCalled(), "no metric"),
        (OnlyAt(), "has at and no begin and no after;"),
        (Plain, r"is the class Plain and no object of it; write loss=Plain\(\)"),
        (3, "not callable, but a value of type int"),
    ],
)
def test_what_a_loss_lacks_is_named(loss, told):
    with pytest.raises(InvalidLoss, match=told):
        Method("mine", "A test's.", "a test", STUDENT, loss)
