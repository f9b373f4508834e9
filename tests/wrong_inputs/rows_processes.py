"""Wrong uses of several processes a cell."""

from row import Row

RUN = "run --methods opcd --tasks rule_math --retention none"
MINE = """
from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="mine", summary="x", source="x", writer=STUDENT, loss=named("rkl_full"),
    teacher=Teacher(weights="adapted", by="grpo"),
)
"""
PAIR = 'methods = ["opcd"]\ntasks = ["rule_math"]\nprocesses = 2\n'

ROWS = [
    Row(f"{RUN} --processes 0", ("processes", "1 or more")),
    Row(f"{RUN} --processes two", ("--processes",)),
    Row(f"{RUN} --processes 2 --jobs 2", ("processes = 2 and jobs = 2", "--jobs 1")),
    Row(f"{RUN} --processes 2 --engine vllm", ("engine = 'vllm'", "engine = 'hf'")),
    Row(
        f"{RUN} --processes 2 --set teacher_engine=vllm",
        ("teacher_engine = 'vllm'", "teacher_engine = 'hf'"),
    ),
    Row(f"{RUN} --processes 2 --set optim=adamw_8bit", ("optim = 'adamw_8bit'", "optim = 'adamw'")),
    Row(f"{RUN} --processes 2 --device cuda:1", ("device = 'cuda:1'", "device = 'cuda'")),
    Row(f"{RUN} --processes 2 --device cuda", ("no CUDA device", "--device cpu")),
    Row(f"{RUN} --set processes=2 --jobs 3 --dry-run", ("jobs = 3",)),
    Row(
        "run --methods ./mine.py --tasks rule_choice --retention none --processes 2 "
        "--set num_generations=2 --dry-run",
        ("'mine'", "weights = 'adapted'", "--processes 1"),
        {"mine.py": MINE},
    ),
    Row(
        "run --suite ./pair.toml --jobs 2 --dry-run",
        ("processes = 2 and jobs = 2",),
        {"pair.toml": PAIR},
    ),
    Row(
        "estimate --methods opcd --tasks rule_math --retention none --processes 2 --measure 1",
        ("--measure", "--processes 1"),
    ),
]
