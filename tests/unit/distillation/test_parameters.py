"""A method with parameters is the method with a field changed, under one name."""

import dataclasses
from typing import Literal

import pytest

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import (
    STUDENT,
    TOLD_TEACHER,
    Method,
    Teacher,
    mixture,
    stored,
)
from opcd_bench.distillation.parameters import parameters, values, with_parameters
from opcd_bench.errors import InvalidLoss, UnknownName

OPCD = Method(
    "opcd", "As published.", "a test", STUDENT, named("rkl_trunc_naive", k=256), Teacher()
)
EMA = Method(
    "opcd_ema", "A mean.", "a test", STUDENT, named("rkl_full"), Teacher(weights="ema", rate=0.5)
)


def test_a_coordinate_of_the_loss_is_changed_and_nothing_else():
    found = with_parameters(OPCD, {"k": "4"})
    assert found.loss == named("rkl_trunc_naive", k=4)
    assert (found.name, found.writer, found.teacher) == ("opcd[k=4]", STUDENT, Teacher())
    assert found.summary == "As published. With k=4."
    assert found.describe()["name"] == "opcd[k=4]" and found.describe()["loss"]["k"] == 4


def test_a_method_with_parameters_is_the_method_that_a_file_would_hold():
    found = with_parameters(OPCD, {"outside": "tail", "k": "20", "support": "union"})
    assert found.loss == named("rkl_tail", k=20, support="union")
    assert found.loss.id == "rkl_tail"


def test_what_equals_the_default_is_the_default():
    same = {"k": "0256", "support": "student_top_k", "teacher_share": "0.0", "rate": "none",
            "importance_weight": "false", "baseline": "0"}  # fmt: skip
    assert with_parameters(OPCD, same) is OPCD
    assert with_parameters(OPCD, {"k": "256"}).describe() == OPCD.describe()
    assert with_parameters(OPCD, {"k": "256", "support": "union"}).name == "opcd[support=union]"


def test_order_and_spelling_of_values_do_not_matter():
    one = with_parameters(EMA, {"rate": "0.90", "outside": "tail", "support": "union", "k": "+4"})
    two = with_parameters(EMA, {"k": "4", "support": "union", "outside": "tail", "rate": "9e-1"})
    assert one == two
    assert one.name == "opcd_ema[k=4,outside=tail,rate=0.9,support=union]"


def test_the_teacher_is_changed_by_its_own_names():
    found = with_parameters(OPCD, {"weights": "ema", "rate": "0.99", "reads": "hint"})
    assert found.teacher == Teacher(weights="ema", reads="hint", rate=0.99)
    live = with_parameters(EMA, {"weights": "live", "rate": "none"})
    assert live.teacher == Teacher(weights="live")
    assert live.name == "opcd_ema[rate=none,weights=live]"
    assert with_parameters(OPCD, {"rows": "shuffled"}).teacher.rows == "shuffled"


@pytest.mark.parametrize(
    ("text", "writer", "name"),
    [
        ("0.25", mixture(0.25), "opcd[teacher_share=0.25]"),
        ("1", TOLD_TEACHER, "opcd[teacher_share=1]"),
        ("1.0", TOLD_TEACHER, "opcd[teacher_share=1]"),
        ("0", STUDENT, "opcd"),
    ],
)
def test_the_teachers_share_goes_from_the_student_to_the_told_teacher(text, writer, name):
    found = with_parameters(OPCD, {"teacher_share": text})
    assert (found.writer, found.name) == (writer, name)


def test_a_parameter_that_the_method_does_not_take_is_named_with_near_ones():
    with pytest.raises(UnknownName, match="unknown parameter 'suport' of method 'opcd'") as caught:
        with_parameters(OPCD, {"suport": "union"})
    assert "Did you mean 'support'?" in str(caught.value)
    assert "Known: alpha, baseline, beta, by, by_reads, clip, direction" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"k": "four"}, "method opcd[k=four]: k is a whole number or none, not 'four'"),
        ({"k": "4.0"}, "k is a whole number or none, not '4.0'. opcd has k=256"),
        ({"rate": "nan"}, "rate is a number or none, not 'nan'. opcd has rate=none"),
        ({"rate": "1_0"}, "rate is a number or none"),
        ({"support": "uniom"}, "Did you mean support=union?"),
        ({"weights": "emma"}, "weights is one of initial, larger, ema, live, adapted, not 'emma'"),
        ({"importance_weight": "yes"}, "importance_weight is true or false, not 'yes'"),
        ({"baseline": "reverse"}, "baseline is a number or reverse_kl"),
        ({"teacher_share": "half"}, "teacher_share is a number, not 'half'"),
    ],
)
def test_a_text_that_is_no_value_of_its_field_says_what_is_allowed(given, told):
    with pytest.raises(InvalidLoss) as caught:
        with_parameters(OPCD, given)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"support": "full"}, "only a top-k support has a k"),
        ({"k": "0"}, "a whole number of tokens, at least 1"),
        ({"beta": "0.5"}, "this direction has no mixture"),
        ({"weights": "ema"}, "an ema teacher needs a rate"),
        ({"teacher_share": "1.5"}, "strictly between 0 and 1"),
        ({"gradient": "stop_gradient", "outside": "tail"}, "refused"),
        (
            {"support": "sampled", "k": "none", "outside": "none", "estimator": "k2",
             "teacher_share": "1"},
            "replies that the current student wrote",
        ),
    ],
)  # fmt: skip
def test_a_combination_that_the_rules_refuse_names_the_method_and_how_its_parameters_stand(
    given, told
):
    with pytest.raises(InvalidLoss) as caught:
        with_parameters(OPCD, given)
    text = str(caught.value)
    assert text.startswith("method opcd[") and told in text
    assert "Its parameters, with these: " in text and "direction=reverse_kl" in text


def test_none_leaves_out_what_another_choice_has_no_use_for():
    found = with_parameters(OPCD, {"support": "full", "k": "none", "outside": "none"})
    assert found.loss == named("rkl_full")


def test_a_loss_of_ones_own_takes_the_teachers_and_the_writers_parameters():
    def loss(student, teacher, ids):
        raise NotImplementedError

    own = Method("own", "Its own.", "a test", STUDENT, loss)
    assert set(parameters(own)) == {
        "teacher_share", "writer_reads", "weights", "reads", "rate", "rows", "by", "by_reads",
    }  # fmt: skip
    assert with_parameters(own, {"weights": "live"}).loss is loss
    with pytest.raises(UnknownName, match="Its loss has no fields: a frozen dataclass has"):
        with_parameters(own, {"k": "4"})


@dataclasses.dataclass(frozen=True)
class Power:
    """A contributor's loss; its ``rate`` is hidden by the teacher's."""

    power: float = 0.5
    most: int | None = None
    beta1: float = 0.9
    Upper: float = 0.1
    order: Literal[1, 2] = 1
    form: Literal["round", "square"] = "round"
    teacher_share: float = 7.0
    rate: float = 3.0
    table: tuple[float, ...] = ()

    def __post_init__(self):
        if self.power < 0:
            raise ValueError("power is below 0")

    def __call__(self, student, teacher, ids):
        raise NotImplementedError


def test_the_fields_of_a_loss_of_ones_own_are_parameters():
    own = Method("own", "Its own.", "a test", STUDENT, Power())
    assert {"power", "most", "beta1", "form"} < set(parameters(own))
    assert not {"table", "Upper", "order"} & set(parameters(own))
    assert with_parameters(own, {"beta1": "0.5", "form": "square"}).loss.beta1 == 0.5
    assert with_parameters(own, {"teacher_share": "0.5"}).writer == mixture(0.5)
    found = with_parameters(own, {"power": "2", "most": "7"})
    assert (found.name, found.loss) == ("own[most=7,power=2]", Power(2.0, 7))
    assert found.describe()["loss"] != own.describe()["loss"]
    assert with_parameters(own, {"power": "0.5"}) is own
    assert with_parameters(own, {"weights": "ema", "rate": "0.9"}).loss == Power()
    with pytest.raises(InvalidLoss, match="power is a number, not 'much'"):
        with_parameters(own, {"power": "much"})
    with pytest.raises(InvalidLoss, match=r"own\[power=-1\]: ValueError: power is below 0"):
        with_parameters(own, {"power": "-1"})


def test_a_stored_writer_has_no_share():
    kept = Method("kept", "Kept.", "a test", stored("a.jsonl"), named("rkl_full"))
    assert "teacher_share" not in parameters(kept)
    assert with_parameters(kept, {"rows": "shuffled"}).writer == stored("a.jsonl")


def test_the_values_of_a_method_build_it_again():
    from opcd_bench.distillation.parameters import text_of

    texts = {name: text_of(value) for name, value in values(EMA).items()}
    assert texts["rate"] == "0.5" and texts["k"] == "none" and texts["support"] == "full"
    assert with_parameters(EMA, texts) is EMA


def test_a_hash_of_the_file_enters_the_description_only_where_there_is_one():
    assert "source_hash" not in OPCD.describe()
    own = Method("a", "A.", "a test", STUDENT, named("rkl_full"), source_hash="0123456789")
    assert own.describe()["source_hash"] == "0123456789"
    assert with_parameters(own, {"rows": "shuffled"}).source_hash == "0123456789"


def test_what_the_rollout_policy_reads_is_a_parameter():
    sft = Method("sft", "A test's.", "a test", TOLD_TEACHER, named("nll"))
    found = with_parameters(sft, {"writer_reads": "hint"})
    assert (found.name, found.writer.reads) == ("sft[writer_reads=hint]", "hint")
    mixed = with_parameters(sft, {"teacher_share": "0.5", "writer_reads": "hint"})
    assert mixed.writer == mixture(0.5, reads="hint")
    assert with_parameters(sft, {"teacher_share": "0"}).writer == STUDENT
    with pytest.raises(InvalidLoss, match="writer 'student' reads nothing"):
        with_parameters(OPCD, {"writer_reads": "hint"})
