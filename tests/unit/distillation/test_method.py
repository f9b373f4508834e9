"""A method is three choices, and nonsense is refused with the reason."""

import functools
import importlib.util
import json

import pytest

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.method import (
    STUDENT,
    TOLD_TEACHER,
    Method,
    Stage,
    Teacher,
    Writer,
    mixture,
    stored,
)
from opcd_bench.errors import InvalidLoss


def method(**values):
    least = {
        "name": "mine", "summary": "A test's.", "source": "a test", "writer": STUDENT,
        "loss": named("rkl_full"),
    }  # fmt: skip
    return Method(**{**least, **values})


WEIGHTED = [named("rkl_hybrid", k=4, importance_weight=True)] + [
    named(f"pg_{k}", importance_weight=True) for k in ("k1", "k2", "k3")
]


class Late:
    """Rests on sampled tokens once training is over."""

    metric = "late"

    def begin(self):
        return {"late": 0.0}

    def at(self, state, progress):
        return named("pg_k1") if progress == 1.0 else named("rkl_full")

    def after(self, state, progress, value):
        return {"late": progress}


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: Writer("nobody"), "writer 'nobody' does not exist"),
        (lambda: mixture(0.0), "strictly between 0 and 1"),
        (lambda: mixture(1.0), "use STUDENT or TOLD_TEACHER|use STUDENT or TEACHER"),
        (lambda: Writer("student", 0.5), "no teacher_share of 0.5"),
        (lambda: Writer("stored", 1.0), "names its file"),
        (lambda: Writer("student", 0.0, "x.jsonl"), "names its file"),
        (lambda: Teacher(weights="huge"), "teacher.weights is 'huge'"),
        (lambda: Teacher(reads="minds"), "teacher.reads is 'minds'"),
        (lambda: Teacher(rows="mixed"), "teacher.rows is 'mixed'"),
        (lambda: Teacher(weights="ema"), "needs a rate"),
        (lambda: Teacher(weights="ema", rate=1.0), "rate 1 is weights='initial'"),
        (lambda: Teacher(rate=0.5), "rate belongs to weights='ema'"),
        (lambda: Teacher(weights="live", reads="nothing"), "the loss is 0 everywhere"),
        (lambda: method(name="Two Words"), "lower-case letters, digits and underscores"),
        (lambda: method(summary=" "), "summary is empty"),
        (lambda: method(source=""), "source is empty"),
        (lambda: method(loss="rkl_full"), "not callable"),
        (lambda: method(writer=TOLD_TEACHER, loss=named("pg_k1")), "use writer=STUDENT"),
        (lambda: method(writer=mixture(0.5), loss=named("k2_loss")), "use writer=STUDENT"),
        (lambda: method(writer=stored("x.jsonl"), loss=named("k3_loss")), "use writer=STUDENT"),
        *(
            (
                lambda loss=loss, writer=writer: method(writer=writer, loss=loss),
                r"importance_weight=True needs .*use writer=STUDENT \(teacher_share=0\)",
            )
            for loss in WEIGHTED
            for writer in (TOLD_TEACHER, mixture(0.5), stored("x.jsonl"))
        ),
        (
            lambda: method(loss=WEIGHTED[0], begins=Stage(0.5, TOLD_TEACHER, WEIGHTED[0])),
            "importance_weight=True needs",
        ),
        (lambda: method(writer=TOLD_TEACHER, loss=Late()), "use writer=STUDENT"),
        (
            lambda: method(
                teacher=Teacher(weights="adapted", by="grpo"),
                begins=Stage(
                    0.5, TOLD_TEACHER, named("nll"), Teacher(weights="adapted", by="opcd")
                ),
            ),
            r"adapted by different methods \(grpo, opcd\)",
        ),
    ],
)
def test_each_invalid_combination_is_refused_with_its_reason(build, told):
    with pytest.raises(InvalidLoss, match=told):
        build()


def test_a_loss_that_sums_over_its_support_takes_any_writer():
    for writer in (STUDENT, TOLD_TEACHER, mixture(0.5), stored("x.jsonl")):
        assert method(writer=writer).writer is writer


def test_a_description_is_json_and_holds_every_choice():
    made = method(
        writer=mixture(0.25),
        loss=named("rkl_trunc_naive", support="student_top_k", k=256),
        teacher=Teacher(weights="ema", rate=0.99, reads="hint"),
    )
    told = json.loads(json.dumps(made.describe()))
    assert told["writer"] == {"kind": "mixture", "teacher_share": 0.25, "path": None}
    assert told["loss"]["id"] == "rkl_trunc_naive"
    assert told["loss"]["k"] == 256
    assert told["teacher"] == {"weights": "ema", "reads": "hint", "rate": 0.99, "rows": "aligned"}


def test_a_loss_of_ones_own_is_described_by_its_name_and_code():
    def mine(student, teacher, ids):
        return student

    told = method(loss=mine).describe()["loss"]
    assert told["callable"].endswith("mine")
    assert len(told["source_hash"]) == 10


def test_only_the_plain_student_is_on_policy():
    assert STUDENT.on_policy
    assert not any(writer.on_policy for writer in (TOLD_TEACHER, mixture(0.5), stored("x")))


def test_an_edited_loss_object_is_another_method():
    class One:
        def __call__(self, student, teacher, ids):
            return student

    class Two:
        def __call__(self, student, teacher, ids):
            return student * 2

    hashes = [method(loss=loss()).describe()["loss"]["source_hash"] for loss in (One, Two)]
    assert None not in hashes and hashes[0] != hashes[1]


def test_a_losss_identity_is_its_source_and_no_module_or_byte_code(tmp_path):
    file = tmp_path / "one.py"
    file.write_text(
        "def mine(student, teacher, ids):\n    return student if 1 in {0, 8} else teacher\n"
    )
    described = []
    for name in ("first", "second"):
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        described.append(method(loss=module.mine).describe()["loss"])
    assert described[0] == described[1] == {"callable": "mine", "source_hash": "20ccf24148"}


def test_a_partial_loss_is_told_apart_by_what_it_fixes():
    def mine(student, teacher, ids, scale=1):
        return student * scale

    described = [
        json.dumps(method(loss=functools.partial(mine, scale=scale)).describe()["loss"])
        for scale in (2, 2, 3)
    ]
    assert described[0] == described[1] != described[2]


def test_a_loss_whose_source_cannot_be_read_is_refused():
    space = {}
    exec("def mine(student, teacher, ids):\n    return student", space)
    with pytest.raises(InvalidLoss, match="define it with def or class"):
        method(loss=space["mine"]).describe()


def test_other_stored_trajectories_are_another_method(tmp_path):
    file = tmp_path / "replies.jsonl"
    described = []
    for text in (None, "one", "two"):
        if text is not None:
            file.write_text(text)
        described.append(method(writer=stored(str(file))).describe()["writer"]["sha256"])
    assert described[0] is None
    assert len(set(described)) == 3


def test_a_folder_of_stored_trajectories_is_known_by_the_rows_that_lie_below_it(tmp_path):
    def known(path):
        return method(writer=stored(str(path))).describe()["writer"]["sha256"]

    folder, file = tmp_path / "shared" / "told-toy--0123456789", tmp_path / "both.jsonl"
    folder.mkdir(parents=True)
    assert known(folder) is None
    (folder / "step_000002.jsonl").write_text("two\n")
    (folder / "step_000001.jsonl").write_text("one\n")
    (folder / "step_000001.sha256").write_text("of its store")
    file.write_text("one\ntwo\n")
    assert known(folder) == known(tmp_path / "shared") == known(file)
    (folder / "step_000003.jsonl").write_text("three\n")
    assert known(folder) == known(tmp_path / "shared") != known(file)


def test_what_a_rollout_policy_reads_is_described_where_it_is_not_the_context():
    assert "reads" not in method(writer=TOLD_TEACHER).describe()["writer"]
    told = method(writer=mixture(0.5, reads="hint")).describe()["writer"]
    assert told["reads"] == "hint"
    for writer in ({"kind": "student"}, {"kind": "stored", "path": "x", "teacher_share": 1.0}):
        with pytest.raises(InvalidLoss, match="reads nothing, so"):
            Writer(**writer, reads="hint")
    with pytest.raises(InvalidLoss, match=r"writer\.reads is 'minds'"):
        Writer("teacher", 1.0, reads="minds")
