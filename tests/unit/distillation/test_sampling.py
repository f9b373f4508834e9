"""Who writes what: the schedule, the mixture, and both readings of a reply."""

import dataclasses
from collections import Counter

import pytest
from fixtures import tiny_model, tiny_tokenizer
from toy import SIZES, Toy, toy_suite

from opcd_bench.distillation import sampling
from opcd_bench.distillation.method import STUDENT, TOLD_TEACHER, Teacher, mixture
from opcd_bench.distillation.pairs import pairs_of
from opcd_bench.distillation.replies import told_by_teacher
from opcd_bench.distillation.sampling import Slot, schedule
from opcd_bench.envs import readings
from opcd_bench.envs.task import Context, Example, Grade
from opcd_bench.errors import DataError
from opcd_bench.models.loading import assemble
from opcd_bench.models.prompts import prompt_ids
from opcd_bench.rollout.engine import Reply
from opcd_bench.rollout.trajectory import Skipped, Trajectory, TurnRecord

EOS = 2


@pytest.fixture
def suite(tiny_model_folder, tmp_path):
    return toy_suite(tiny_model_folder, tmp_path)


# --- the schedule ---------------------------------------------------------------------------------


def test_every_epoch_covers_train_once_in_an_order_of_its_own(suite):
    """Steps of four over six examples, so that epochs end within steps."""
    four = suite.model_copy(update={"batch_size": 4})
    ids = [slot.example.id for step in range(6) for slot in schedule(Toy(), four, 0, step)]
    everything = {example.id for example in Toy().examples("train")}
    epochs = [ids[i : i + SIZES["train"]] for i in range(0, len(ids), SIZES["train"])]
    assert len(epochs) == 4
    assert all(len(epoch) == 6 and set(epoch) == everything for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_schedule_depends_on_the_seed_and_on_nothing_of_the_method(suite):
    def ids(settings, seed):
        return [[s.example.id for s in schedule(Toy(), settings, seed, step)] for step in range(6)]

    other = suite.model_copy(update={"methods": ("sft_context",), "learning_rate": (1.0,)})
    assert ids(suite, 0) == ids(other, 0)
    assert ids(suite, 0) != ids(suite, 1)


def test_a_step_can_be_scheduled_without_those_before_it(suite):
    """A resumed run starts anywhere: no state, only numbers."""
    in_order = [schedule(Toy(), suite, 0, step) for step in range(5)]
    sampling._order.cache_clear()
    assert schedule(Toy(), suite, 0, 4) == in_order[4]


def test_an_example_gets_as_many_generations_as_the_suite_says(suite):
    three = suite.model_copy(update={"num_generations": 3})
    slots = schedule(Toy(), three, 0, 0)
    assert [slot.generation for slot in slots] == [0, 1, 2] * 2
    assert Counter(slot.example.id for slot in slots).most_common(1)[0][1] == 3


def test_an_example_twice_in_a_step_is_written_with_other_noise(suite):
    """Ten of six: an epoch ends within the step, and equal noise would write the same twice."""
    ten = suite.model_copy(update={"batch_size": 10, "num_generations": 2})
    slots = [(slot.example.id, slot.generation) for slot in schedule(Toy(), ten, 0, 0)]
    assert len(slots) == 20 == len(set(slots))


def test_an_examples_responses_are_numbered_through_the_run_and_its_rounds(suite):
    """Steps of four over six examples, two responses each: the second epoch begins in step 1."""
    two = suite.model_copy(update={"batch_size": 4, "num_generations": 2})
    numbers = {}
    for slot in (slot for step in range(9) for slot in schedule(Toy(), two, 0, step)):
        numbers.setdefault(slot.example.id, []).append(slot.number)
    assert len(numbers) == 6 and all(found == list(range(12)) for found in numbers.values())
    later = two.model_copy(update={"round": 2, "max_steps": 3})
    assert schedule(Toy(), later, 0, 0)[0].number == schedule(Toy(), two, 0, 3)[0].number == 4


def test_a_task_without_train_examples_is_refused(suite):
    class Empty(Toy):
        def examples(self, split):
            return []

    with pytest.raises(DataError, match="no train examples"):
        schedule(Empty(), suite, 0, 0)


# --- the writer of each slot ----------------------------------------------------------------------


def many(n):
    return [Slot(i // 64, Example({"word": f"train{i}"}), 0) for i in range(n)]


def test_the_told_teachers_share_of_a_mixture_is_the_one_asked_for():
    told = told_by_teacher(mixture(0.3), many(4000), Toy(), 0)
    assert sum(told) / len(told) == pytest.approx(0.3, abs=0.03)


def test_a_slots_writer_does_not_depend_on_its_batch():
    slots = many(50)
    whole = told_by_teacher(mixture(0.5), slots, Toy(), 0)
    assert [told_by_teacher(mixture(0.5), [s], Toy(), 0)[0] for s in slots] == whole
    assert told_by_teacher(mixture(0.5), slots, Toy(), 1) != whole


def test_a_larger_share_keeps_the_teacher_where_a_smaller_one_had_it():
    """The same draw is compared with the share, so mixtures of a sweep are nested."""
    few, more = (told_by_teacher(mixture(share), many(300), Toy(), 0) for share in (0.2, 0.6))
    assert all(b for a, b in zip(few, more, strict=True) if a)


def test_student_and_told_teacher_write_all_or_nothing():
    assert not any(told_by_teacher(STUDENT, many(5), Toy(), 0))
    assert all(told_by_teacher(TOLD_TEACHER, many(5), Toy(), 0))


class Listener:
    """An engine that keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def generate(self, requests, sampling):
        self.asked += requests
        return [Reply((7, EOS), (-1.0, -1.0), "x", "stop") for _ in requests]


def test_noise_is_the_same_whoever_writes_and_the_told_prompt_alone_differs(suite, tiny_loaded):
    slots = schedule(Toy(), suite, 0, 3)
    plain, told = Listener(), Listener()
    sampling.sample_replies(slots, Toy(), suite, 0, tiny_loaded, plain, None)
    sampling.sample_replies(slots, Toy(), suite, 0, tiny_loaded, told, Toy().contexts())
    assert [r.seed for r in plain.asked] == [r.seed for r in told.asked]
    assert len({r.seed for r in plain.asked}) == len(slots)
    assert [r.prompt_ids for r in plain.asked] != [r.prompt_ids for r in told.asked]
    later = Listener()
    sampling.sample_replies(schedule(Toy(), suite, 1, 3), Toy(), suite, 1, tiny_loaded, later, None)
    assert not {r.seed for r in later.asked} & {r.seed for r in plain.asked}


def trajectory(example, *, replies=((7, 8, EOS),), outcome="correct"):
    turns = tuple(
        TurnRecord(
            ({"role": "user", "content": f"turn {n} of {example.content['word']}"},),
            (1,),
            Reply(ids, tuple(-0.5 - i for i in range(len(ids))), "text", "stop"),
        )
        for n, ids in enumerate(replies)
    )
    return Trajectory(example.id, turns, Grade(1.0, "a", "why"), outcome, "")


ONE, TWO = Example({"word": "one"}, reference="42", hint="add"), Example({"word": "two"})


# --- both readings --------------------------------------------------------------------------------


def paired(trajectories, examples, suite, student, *, teacher=None, told_by=None, on_policy=None):
    return pairs_of(
        trajectories,
        examples,
        teacher or Teacher(),
        Toy(),
        suite,
        student,
        seed=0,
        told_by=told_by or student,
        on_policy=on_policy or [True] * len(trajectories),
    )


def text(loaded, ids):
    return loaded.tokenizer.decode(list(ids))


def test_both_readings_end_with_the_same_reply_after_their_own_prompts(suite, tiny_loaded):
    (pair,) = paired([trajectory(ONE)], [ONE], suite, tiny_loaded).pairs
    messages = [{"role": "user", "content": "turn 0 of one"}]
    assert pair.plain_ids == prompt_ids(tiny_loaded, messages)
    assert pair.told_ids == prompt_ids(tiny_loaded, Toy().context().tell(messages))
    assert pair.reply_ids == (7, 8, EOS)
    assert Toy().context().text in text(tiny_loaded, pair.told_ids)
    assert Toy().context().text not in text(tiny_loaded, pair.plain_ids)


def test_each_reading_is_rendered_by_its_own_models_template(suite, tiny_loaded):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "TEACHER{% for m in messages %} {{ m['content'] }}{% endfor %}"
    larger = assemble("larger", tiny_model(), tokenizer)
    (pair,) = paired([trajectory(ONE)], [ONE], suite, tiny_loaded, told_by=larger).pairs
    assert text(larger, pair.told_ids) == f"TEACHER {Toy().context().text} turn 0 of one"
    assert text(tiny_loaded, pair.plain_ids).startswith("<|im_start|>user")


def test_a_reply_ends_with_its_first_end_of_sequence_and_so_do_its_logprobs(suite, tiny_loaded):
    kept = trajectory(ONE, replies=((7, EOS, 8, EOS),))
    (pair,) = paired([kept], [ONE], suite, tiny_loaded).pairs
    assert pair.reply_ids == (7, EOS)
    assert pair.written_logprobs == (-0.5, -1.5)


def test_a_reply_of_the_teacher_carries_no_log_probs_of_the_student(suite, tiny_loaded):
    batch = paired(
        [trajectory(ONE), trajectory(TWO)], [ONE, TWO], suite, tiny_loaded, on_policy=[True, False]
    )
    assert [pair.written_logprobs is None for pair in batch.pairs] == [False, True]


def test_every_turn_is_a_pair_of_its_own(suite, tiny_loaded):
    kept = trajectory(ONE, replies=((7, EOS), (8, 9)))
    batch = paired([kept], [ONE], suite, tiny_loaded)
    assert [(p.turn, p.reply_ids) for p in batch.pairs] == [(0, (7, EOS)), (1, (8, 9))]
    assert "turn 1 of one" in text(tiny_loaded, batch.pairs[1].plain_ids)


def test_the_turns_of_a_game_that_outgrew_the_prompt_are_trained_on(suite, tiny_loaded):
    replies = ((7, EOS), (8, EOS))
    attempts = [trajectory(ONE, replies=replies, outcome=o) for o in ("truncated", "wrong")]
    batches = [paired([attempt], [ONE], suite, tiny_loaded) for attempt in attempts]
    assert batches[0] == batches[1] and len(batches[0].pairs) == 2


def test_failed_and_skipped_attempts_are_left_out_and_counted_apart(suite, tiny_loaded):
    attempts = [trajectory(ONE, outcome="failed"), Skipped(TWO.id, 0, 900, 800), trajectory(TWO)]
    batch = paired(attempts, [ONE, TWO, TWO], suite, tiny_loaded)
    assert [pair.example_id for pair in batch.pairs] == [TWO.id]
    assert (batch.failed, batch.overlong) == (1, 1)


def over_long(suite, tiny_loaded, **settings):
    """A limit between the plain prompt and the told one."""
    (pair,) = paired([trajectory(ONE)], [ONE], suite, tiny_loaded).pairs
    assert len(pair.plain_ids) < len(pair.told_ids)
    return suite.model_copy(update={"max_prompt_length": len(pair.told_ids) - 1, **settings})


def test_an_over_long_told_prompt_is_refused_with_the_limit(suite, tiny_loaded):
    short = over_long(suite, tiny_loaded)
    with pytest.raises(
        DataError, match=rf"{ONE.id}: the prompt with context has \d+ tokens, above"
    ):
        paired([trajectory(ONE)], [ONE], short, tiny_loaded)


def test_an_over_long_told_prompt_is_skipped_and_counted_where_the_suite_says_so(
    suite, tiny_loaded
):
    short = over_long(suite, tiny_loaded, overlong="skip")
    batch = paired([trajectory(ONE)], [ONE], short, tiny_loaded)
    assert (batch.pairs, batch.overlong) == ((), 1)


def test_a_told_prompt_that_leaves_the_teacher_no_room_is_over_long_too(suite, tiny_loaded):
    (pair,) = paired([trajectory(ONE)], [ONE], suite, tiny_loaded).pairs
    window = len(pair.told_ids) + suite.max_completion_length
    fits = dataclasses.replace(tiny_loaded, max_length=window)
    tight = dataclasses.replace(tiny_loaded, max_length=window - 1)
    skip = suite.model_copy(update={"overlong": "skip"})
    assert len(paired([trajectory(ONE)], [ONE], skip, tiny_loaded, told_by=fits).pairs) == 1
    assert paired([trajectory(ONE)], [ONE], skip, tiny_loaded, told_by=tight).overlong == 1


def test_a_prompt_that_leaves_the_student_no_room_is_over_long_where_others_wrote(
    suite, tiny_loaded
):
    """A larger teacher, or a file, answers prompts that are longer than the student can read."""
    (pair,) = paired([trajectory(ONE)], [ONE], suite, tiny_loaded).pairs
    window = len(pair.plain_ids) + suite.max_completion_length
    fits = dataclasses.replace(tiny_loaded, max_length=window)
    tight = dataclasses.replace(tiny_loaded, max_length=window - 1)
    skip = suite.model_copy(update={"overlong": "skip"})
    assert paired([trajectory(ONE)], [ONE], suite, fits, told_by=tiny_loaded).pairs == (pair,)
    assert paired([trajectory(ONE)], [ONE], skip, tight, told_by=tiny_loaded).overlong == 1
    with pytest.raises(DataError, match=rf"{ONE.id}: the prompt without context has \d+ tokens"):
        paired([trajectory(ONE)], [ONE], suite, tight, told_by=tiny_loaded)


@pytest.mark.parametrize(
    ("reads", "told"),
    [("context", "Say it in an odd number"), ("hint", "add"), ("reference", "The answer is 42.")],
)
def test_the_teacher_is_told_what_it_reads(reads, told, suite, tiny_loaded):
    batch = paired([trajectory(ONE)], [ONE], suite, tiny_loaded, teacher=Teacher(reads=reads))
    prompt = text(tiny_loaded, batch.pairs[0].told_ids)
    assert f"<|im_start|>system\n{told}" in prompt
    assert "turn 0 of one" in prompt


def test_a_teacher_that_reads_nothing_reads_what_the_student_reads(suite, tiny_loaded):
    batch = paired([trajectory(ONE)], [ONE], suite, tiny_loaded, teacher=Teacher(reads="nothing"))
    assert batch.pairs[0].told_ids == batch.pairs[0].plain_ids


def test_an_example_without_what_the_teacher_reads_is_refused(suite, tiny_loaded):
    with pytest.raises(DataError, match=r"has no hint.*reads = 'context'"):
        paired([trajectory(TWO)], [TWO], suite, tiny_loaded, teacher=Teacher(reads="hint"))


def test_what_the_teacher_reads_goes_where_the_tasks_context_goes():
    class InUser(Toy):
        def context(self):
            return Context("rules", "user")

    assert readings.told("hint", InUser(), ONE, 0) == Context("add", "user")
