"""Wrong words of what methods read, rewards, stages, adapted teachers, entrants, interpolations."""

from row import Row

METHOD = """
from opcd_bench import STUDENT, TOLD_TEACHER, Method, Stage, Teacher, Writer, named

METHOD = Method(name="mine", summary="x", source="x", {})
"""
NLL = 'loss=named("nll")'
GAMES = "--tasks frozen_lake --dry-run"


def mine(choices: str) -> dict[str, str | bytes]:
    return {"mine.py": METHOD.format(choices)}


ROWS = [
    Row(
        f"run --methods opcd[reads=hint] {GAMES}",
        ("its teacher reads the hint", "(opcd[reads=context])"),
    ),
    Row(
        "estimate --methods sft_context[writer_reads=hint] --tasks frozen_lake",
        ("its rollout policy reads the hint", "sft_context[writer_reads=context]"),
    ),
    Row(f"run --methods opcd[writer_reads=hint] {GAMES}", ("writer 'student' reads nothing",)),
    Row(
        f"run --methods sft_context[writer_reads=nothing] {GAMES}",
        ("one of context, hint, reference",),
    ),
    Row(f"run --methods grpo {GAMES}", ("num_generations = 1", "--set num_generations=4")),
    Row(
        f"run --methods grpo --set num_generations=4 --set top_p=0.9 {GAMES}",
        ("whole distribution", "--set top_p=1.0"),
    ),
    Row(
        f"run --methods opcd_hybrid[importance_weight=true] --set top_p=0.9 {GAMES}",
        ("whatever its importance weight", "--set top_p=1.0", "--set top_k=0"),
    ),
    Row(
        f"run --methods opcd_hybrid[importance_weight=true,teacher_share=1.0] {GAMES}",
        ("needs the log-prob at which the student sampled", "teacher_share=0"),
    ),
    Row(
        f"run --methods opcd_hybrid[importance_weight=true,teacher_share=0.5] {GAMES}",
        ("needs the log-prob at which the student sampled", "teacher_share=0"),
    ),
    Row(f"run --methods grpo[clip=2] {GAMES}", ("clip=2.0 must lie between 0 and 1",)),
    Row(f"run --methods grpo[advantage=best] {GAMES}", ("one of group, centred, constant",)),
    Row(f"run --methods grpo[advantage=constant] {GAMES}", ("expected gradient is exactly 0",)),
    Row(f"run --methods grpo[k=4] {GAMES}", ("unknown parameter 'k' of method 'grpo'",)),
    Row(f"run --methods taid[t_start=0] {GAMES}", ("t_start=0.0", "Write t_start=0.4")),
    Row(f"run --methods sft_then_opcd[begins_share=1] {GAMES}", ("strictly between 0 and 1",)),
    Row(
        f"run --methods sft_then_opcd --set max_steps=1 --set eval_steps=1 {GAMES}",
        ("its first stage takes 0.25", "begins_share=0.5"),
    ),
    Row(
        f"run --methods opcd[weights=adapted] {GAMES}",
        ("names the method that adapts it", "by='grpo'"),
    ),
    Row(
        f"run --methods opcd[weights=adapted,by=nosuch] {GAMES}",
        ("unknown method 'nosuch'", "opcd-bench methods"),
    ),
    Row(
        f"run --methods opcd[weights=adapted,by=grpo] {GAMES}",
        ("method 'grpo'", "--set num_generations=4"),
    ),
    Row(
        f"run --methods ./mine.py {GAMES}",
        ("a stage's share of the steps",),
        mine(f"writer=STUDENT, {NLL}, begins=Stage(0.0, TOLD_TEACHER, named('nll'))"),
    ),
    Row(
        f"run --methods ./mine.py {GAMES}",
        ("writer.reads is 'minds'",),
        mine(f"writer=Writer('teacher', 1.0, reads='minds'), {NLL}"),
    ),
    Row("run --suite quick --dry-run --entrant mine", ("--entrant NAME=FOLDER_OR_ID",)),
    Row("run --suite quick --dry-run --entrant a=x --entrant a=y", ("is given twice",)),
    Row("run --suite quick --dry-run --entrant opcd=x", ("no method's name",)),
    Row(
        "run --suite quick --dry-run --entrant mine=./empty",
        ("model folder empty has no config.json",),
        {"empty/nothing.txt": "x"},
    ),
    Row("run --suite quick --dry-run --interpolate half", ("write shares between 0 and 1",)),
    Row("run --suite quick --dry-run --interpolate 0.5,1", ("interpolate: 1 is no share",)),
    Row("run --suite quick --dry-run --interpolate 0.5,0.5", ("has a share twice",)),
    Row(
        "run --suite quick --dry-run --interpolate 0.5 --set keep_checkpoints=none",
        ("keep_checkpoints = 'chosen'",),
    ),
    Row("estimate --suite quick --interpolate 1", ("interpolate: 1 is no share",)),
    Row("estimate --suite quick --entrant mine", ("--entrant NAME=FOLDER_OR_ID",)),
    Row("audit --methods grpo", ("reads rewards", "taid")),
]
