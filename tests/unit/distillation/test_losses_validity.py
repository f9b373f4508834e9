"""Which losses can be built, how they are named, and which teachers can serve them (O-29)."""

import dataclasses
import json
import subprocess
import sys
import warnings
from typing import get_args, get_type_hints

import pytest
import torch

from opcd_bench.distillation.losses import divergence
from opcd_bench.distillation.losses.coordinates import CHOICES, Coordinates
from opcd_bench.distillation.losses.divergence import Divergence, loss_ids, named
from opcd_bench.distillation.losses.functional import token_loss
from opcd_bench.distillation.losses.served import served
from opcd_bench.errors import InvalidLoss, UnknownName

ISSUE_IDS = """
    rkl_full fkl_full jsd_b skew_f skew_r rkl_trunc_naive rkl_trunc_sg rkl_gen rkl_tail rkl_renorm
    rkl_sg_wrong fkl_trunc fkl_gen fkl_renormT fkl_renorm fkl_tail k1_loss k2_loss k3_loss pg_k1
    pg_k2 pg_k3 pg_topk_scalar rkl_hybrid bern_tail fkl_clip nll
""".split()
FREE = {"k": 4, "beta": 0.3, "alpha": 0.1, "clip": 0.5}


def with_options(id, **more):
    """Any id with the options that it cannot do without."""
    try:
        return named(id, allow_broken=True, **more)
    except InvalidLoss:
        wanted = {o: v for o, v in FREE.items() if o in divergence._NAMES[id].options}
        return named(id, allow_broken=True, **{**wanted, **more})


def test_every_id_of_the_issue_is_known():
    assert set(ISSUE_IDS) <= set(loss_ids())


@pytest.mark.parametrize("id", loss_ids())
def test_the_name_is_derived_and_leads_back_to_the_same_loss(id):
    loss = with_options(id)
    assert loss.id == id
    assert named(loss.id, **loss.options) == loss
    assert hash(named(loss.id, **loss.options)) == hash(loss)


@pytest.mark.parametrize("id", loss_ids())
def test_a_description_is_json_and_holds_every_coordinate(id):
    loss = with_options(id)
    found = json.loads(json.dumps(loss.describe()))
    coordinates = {f.name for f in dataclasses.fields(Divergence)} - {"allow_broken"}
    assert coordinates <= set(found) and found["id"] == id
    rebuilt = Divergence(**{name: found[name] for name in coordinates}, allow_broken=True)
    assert rebuilt == loss


def test_spelled_out_coordinates_and_short_names_are_one_loss():
    assert named("rkl_tail", k=20, support="student_top_k") == Divergence(
        direction="reverse_kl", support="student_top_k", k=20, outside="tail", gradient="through"
    )
    assert named("rkl_trunc_sg", k=256) == Divergence(
        direction="reverse_kl",
        support="student_top_k",
        k=256,
        outside="drop",
        gradient="stop_gradient",
    )
    assert named("jsd_b", beta=0.5) != named("jsd_b", beta=0.4)


def test_the_words_of_the_type_hints_are_those_of_the_rules():
    for name in CHOICES:
        assert get_args(get_type_hints(Coordinates)[name]) == CHOICES[name]


def test_importing_a_loss_imports_no_torch():
    code = (
        "import sys; from opcd_bench.distillation.losses.divergence import named; "
        "named('rkl_tail', k=2).describe();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UnknownName, match="Did you mean 'rkl_tail'"):
        named("rkl_tial", k=2)
    with pytest.raises(UnknownName, match="Did you mean 'beta'"):
        named("jsd_b", betta=0.5)
    with pytest.raises(UnknownName, match="unknown option 'k' of loss 'rkl_full'"):
        named("rkl_full", k=20)
    with pytest.raises(InvalidLoss, match="needs k"):
        named("rkl_tail")


@pytest.mark.parametrize(
    ("id", "options", "why"),
    [
        ("k1_loss", {}, "no teacher is in it"),
        ("rkl_sg_wrong", {"k": 4}, "no teacher is in it"),
        ("rkl_sg_wrong", {"support": "full"}, "no teacher is in it"),
        ("pg_topk_scalar", {"k": 4}, "expected gradient is exactly 0"),
        ("fkl_clip", {"clip": 0.1}, "individually signed"),
        ("rkl_clip", {"clip": 0.1}, "individually signed"),
        ("rkl_renorm", {"k": 1}, "value 0, gradient 0"),
        ("fkl_renorm", {"k": 1}, "value 0, gradient 0"),
        ("rkl_tail_sg", {"k": 4}, "changes nothing"),
    ],
)
def test_a_loss_that_is_broken_by_construction_needs_leave(id, options, why):
    """O-29: refused with the reason, and let through as a positive control."""
    with pytest.raises(InvalidLoss, match=why) as caught:
        named(id, **options)
    assert "allow_broken=True" in str(caught.value) and "Write " in str(caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        control = named(id, **options, allow_broken=True)
        assert control.broken
        assert control.options["allow_broken"] is True
        assert named(control.id, **control.options) == control


def test_leave_for_broken_losses_changes_nothing_about_a_sound_one():
    loss = named("rkl_tail", k=4, allow_broken=True)
    assert loss == named("rkl_tail", k=4) and not loss.broken
    assert "allow_broken" not in loss.options


TOP = {"support": "student_top_k", "k": 4}
NONSENSE = [
    ({"direction": "reverse_kl", **TOP}, "must be named"),
    ({"direction": "reverse_kl", "support": "student_topk", "k": 4}, "Did you mean 'student_top"),
    ({"direction": "reverse"}, "direction='reverse'"),
    ({"direction": "reverse_kl", "support": "student_top_k", "k": 0, "outside": "tail"}, "least 1"),
    ({"direction": "reverse_kl", "support": "student_top_k", "outside": "tail"}, "k=None"),
    ({"direction": "reverse_kl", **TOP, "k": True, "outside": "tail"}, "k=True"),
    ({"direction": "reverse_kl", "k": 4}, "only a top-k support"),
    ({"direction": "reverse_kl", "outside": "tail"}, "whole vocabulary"),
    ({"direction": "reverse_kl", **TOP, "outside": "renormalise_teacher"}, "leaks"),
    ({"direction": "reverse_kl", "support": "sampled", "outside": "renormalise"}, "every model"),
    ({"direction": "reverse_kl", "support": "sampled"}, "estimator"),
    ({"direction": "forward_kl", "support": "sampled", "estimator": "k2"}, "reverse KL"),
    ({"direction": "reverse_kl", "estimator": "k2"}, "sampled token's log-ratio"),
    ({"direction": "jsd"}, "beta=None"),
    ({"direction": "jsd", "beta": 0.0}, "0 < beta < 1"),
    ({"direction": "jsd", "beta": 1.0}, "0 < beta < 1"),
    ({"direction": "jsd", "beta": float("nan")}, "0 < beta < 1"),
    ({"direction": "skew_reverse", "alpha": 1.5}, "0 < alpha < 1"),
    ({"direction": "reverse_kl", "beta": 0.5}, "no mixture"),
    ({"direction": "jsd", "beta": 0.5, **TOP, "outside": "drop"}, "do not sum to 1"),
    ({"direction": "skew_forward", "alpha": 0.1, **TOP, "outside": "generalised"}, "sum to 1"),
    ({"direction": "forward_kl", **TOP, "outside": "drop", "gradient": "stop_gradient"}, "exact"),
    ({"direction": "jsd", "beta": 0.5, "gradient": "stop_gradient"}, "exact only"),
    (
        {"direction": "reverse_kl", **TOP, "outside": "generalised", "gradient": "stop_gradient"},
        "twice",
    ),
    ({"direction": "reverse_kl", **TOP, "outside": "sampled"}, "must be stopped"),
    (
        {
            "direction": "forward_kl",
            **TOP,
            "outside": "sampled",
            "gradient": "stop_gradient",
        },
        "unbiased only for the reverse KL",
    ),
    (
        {"direction": "reverse_kl", **TOP, "outside": "tail", "gradient": "score_function"},
        "expected gradient is exactly 0",
    ),
    ({"direction": "forward_kl", "gradient": "score_function"}, "exactly 0"),
    ({"direction": "reverse_kl", "clip": -1.0}, "positive number"),
    ({"direction": "jsd", "beta": 0.5, "clip": 1.0}, "individually signed"),
    ({"direction": "reverse_kl", "baseline": 1.0}, "coefficient"),
    ({"direction": "reverse_kl", "baseline": "mean"}, "baseline='mean'"),
    (
        {
            "direction": "reverse_kl",
            "support": "sampled",
            "estimator": "k2",
            "importance_weight": True,
        },
        "another loss",
    ),
    ({"direction": "reverse_kl", **TOP, "outside": "tail", "importance_weight": True}, "no sample"),
    ({"direction": "reverse_kl", **TOP, "outside": "drop", "missing_ids": "student"}, "rejects"),
    ({"direction": "reverse_kl", **TOP, "outside": "tail", "missing_ids": "floor"}, "inflate"),
    (
        {
            "direction": "forward_kl",
            "support": "teacher_top_k",
            "k": 4,
            "outside": "tail",
            "missing_ids": "drop",
        },
        "no id can be missing",
    ),
    ({"direction": "negative_log_likelihood"}, "named\\('nll'\\)"),
]


@pytest.mark.parametrize(("coordinates", "why"), NONSENSE)
def test_nonsense_is_refused_with_its_reason_even_with_leave_for_broken_losses(coordinates, why):
    """O-29: what is wrong, why, and what to write instead."""
    with pytest.raises(InvalidLoss, match=why) as caught:
        Divergence(**coordinates)
    assert any(word in str(caught.value) for word in ("Write ", "Leave ", "write "))
    with pytest.raises(InvalidLoss):
        Divergence(**coordinates, allow_broken=True)


def test_all_bad_coordinates_are_reported_at_once():
    with pytest.raises(InvalidLoss) as caught:
        Divergence(direction="jsd", beta=2.0, support="sampled", k=3, clip=-1.0)
    assert all(word in str(caught.value) for word in ("beta=2.0", "k=3", "clip=-1.0"))


@pytest.mark.parametrize(
    ("id", "options", "tier"),
    [
        ("rkl_full", {}, "F"),
        ("jsd_b", {"beta": 0.5}, "F"),
        ("rkl_tail", {"k": 4}, "I"),
        ("rkl_tail", {"k": 4, "support": "union"}, "I"),
        ("rkl_tail", {"k": 4, "support": "teacher_top_k"}, "T"),
        ("rkl_tail", {"k": 4, "support": "intersection"}, "T"),
        ("rkl_gen", {"k": 4, "support": "teacher_top_k_and_sampled"}, "T"),
        ("fkl_trunc", {"k": 4}, "T"),
        ("rkl_hybrid", {"k": 4}, "T"),
        ("k2_loss", {}, "Y"),
        ("pg_k1", {}, "Y"),
        ("pg_k1", {"baseline": "reverse_kl"}, "F"),
        ("bern_tail", {}, "Y"),
        ("nll", {}, "none"),
    ],
)
def test_a_loss_says_the_weakest_teacher_that_serves_it(id, options, tier):
    loss = named(id, **options)
    assert loss.teacher_needs == tier
    order = ["none", "Y", "T", "I", "F"]
    for other in order:
        if order.index(other) >= order.index(tier):
            served(loss, other)
        else:
            with pytest.raises(InvalidLoss, match=f"needs a teacher of tier {tier}"):
                served(loss, other)


def test_a_student_support_is_served_by_a_top_k_list_only_under_a_named_policy():
    """O-29."""
    with pytest.raises(InvalidLoss, match="missing_ids = 'drop'"):
        served(named("rkl_tail", k=4), "T")
    served(named("rkl_tail", k=4, missing_ids="drop"), "T")
    served(named("rkl_tail", k=4), "T", missing_ids="drop")
    served(named("rkl_gen", k=4), "T", missing_ids="floor")
    with pytest.raises(InvalidLoss, match="inflate"):
        served(named("rkl_tail", k=4), "T", missing_ids="floor")
    with pytest.raises(InvalidLoss, match="never the student's own"):
        served(named("rkl_gen", k=4), "T", missing_ids="student")
    with pytest.raises(InvalidLoss, match="tier Y"):
        served(named("rkl_tail", k=4, missing_ids="drop"), "Y")


def test_a_list_longer_than_the_server_gives_is_refused():
    """O-29."""
    with pytest.raises(InvalidLoss, match="max_logprobs=20"):
        served(named("fkl_trunc", k=256), "T", max_logprobs=20)
    served(named("fkl_trunc", k=20), "T", max_logprobs=20)
    served(named("fkl_trunc", k=256), "F", max_logprobs=20)


def test_a_served_teachers_temperature_needs_a_renormalised_support():
    """O-29, O-24."""
    for id in ("rkl_tail", "rkl_gen", "rkl_trunc_sg", "fkl_trunc"):
        with pytest.raises(InvalidLoss, match="whole vocabulary"):
            served(named(id, k=4), "I", temperature=0.7)
    with pytest.raises(InvalidLoss, match="whole vocabulary"):
        served(named("k2_loss"), "Y", temperature=0.7)
    served(named("rkl_renorm", k=4), "I", temperature=0.7)
    served(named("fkl_renormT", k=4), "T", temperature=0.7)
    served(named("rkl_tail", k=4), "F", temperature=0.7)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidLoss, match="above 0"):
            served(named("rkl_full"), "F", temperature=bad)
    with pytest.raises(InvalidLoss, match="tier 'X'"):
        served(named("rkl_full"), "X")


def test_k_above_the_vocabulary_is_refused_when_the_vocabulary_is_seen():
    for support in ("student_top_k", "teacher_top_k", "union"):
        loss = named("rkl_tail", k=11, support=support)
        with pytest.raises(InvalidLoss, match="k=11 is above the vocabulary of 10"):
            token_loss(loss, torch.zeros(10), torch.zeros(10), torch.tensor(0))


def test_shapes_that_would_broadcast_are_refused():
    loss, reply = named("rkl_full"), torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="one vocabulary"):
        token_loss(loss, torch.zeros(3, 5), torch.zeros(5), reply)
    with pytest.raises(ValueError, match=r"\(\.\.\., V\) and \(\.\.\.\)"):
        token_loss(loss, torch.zeros(3, 5), torch.zeros(3, 5), reply[:1])
    with pytest.raises(InvalidLoss, match="reads a teacher"):
        token_loss(loss, torch.zeros(3, 5), None, reply)


def test_on_policy_only_marks_the_losses_whose_meaning_rests_on_the_students_samples():
    for id in ("k1_loss", "k2_loss", "k3_loss", "pg_k1", "pg_k2", "pg_k3", "rkl_hybrid"):
        assert with_options(id).on_policy_only
    for id in ("rkl_full", "rkl_tail", "fkl_trunc", "jsd_b", "nll", "bern_tail"):
        assert not with_options(id).on_policy_only
    assert not named("pg_k1", importance_weight=True).on_policy_only


def test_a_metric_names_what_is_logged():
    for id, metric in {
        "rkl_full": "reverse_kl",
        "rkl_trunc_naive": "reverse_kl_generalised",
        "rkl_tail": "reverse_kl_tail",
        "fkl_renorm": "forward_kl_renormalised",
        "fkl_renormT": "forward_kl_truncated_teacher",
        "jsd_b": "jsd_0.3",
        "pg_k1": "reverse_kl_estimate",
        "rkl_hybrid": "reverse_kl_estimate",
        "nll": "negative_log_likelihood",
        "fkl_clip": "forward_kl",
    }.items():
        assert with_options(id).metric == metric
