"""Wrong words of ``run``: suites, sizes, methods, tasks, contexts, and what would be found late."""

from row import Row

LONG = "x" * 300
HINTS = """
from opcd_bench import STUDENT, Method, Teacher, named

METHOD = Method(
    name="hints", summary="x", source="x", writer=STUDENT, loss=named("rkl_full"),
    teacher=Teacher(weights="initial", reads="hint"),
)
"""
SUITE = 'methods = ["opcd"]\ntasks = ["rule_math"]\n'

ROWS = [
    Row("run", ("nothing to run", "--suite quick")),
    Row("run --suite nosuch", ("unknown suite 'nosuch'", "./mine.toml")),
    Row("run --suite quikc", ("Did you mean 'quick'",)),
    Row("run --suite ./none.toml", ("none.toml", "No such file")),
    Row("run --suite quick --size large", ("--size large",)),
    Row("run --methods opcd --tasks rule_math --size smoke", ("--size smoke", "--suite NAME")),
    Row(
        "run --methods nosuch --tasks rule_math", ("unknown method 'nosuch'", "opcd-bench methods")
    ),
    Row("run --methods opcd[k=4 --tasks rule_math", ("bracket has no partner",)),
    Row(
        "run --suite quick --set retention=[nonsense",
        ("retention: '[nonsense': a bracket has no partner", "--set retention=a,b"),
    ),
    Row("run --suite quick --set methods=opcd[k=4", ("methods: 'opcd[k=4': a bracket",)),
    Row("run --methods opcd[k=0] --tasks rule_math", ("k",)),
    Row("run --methods opcd,opcd --tasks rule_math", ("there twice: opcd",)),
    Row("run --methods ./none.py --tasks rule_math", ("none.py", "there is no such file")),
    Row("run --methods opcd --tasks nosuch", ("unknown task 'nosuch'", "opcd-bench tasks")),
    Row("run --methods opcd --tasks rule_math[k=4]", ("only methods take parameters",)),
    Row(("run", "--methods", "", "--tasks", "rule_math"), ("methods: at least 1 is needed",)),
    Row(
        "run --suite quick --seeds 100000000", ("seeds: must be 10000 or less", "from 1 to 10,000")
    ),
    Row("run --suite quick --seeds 1.5", ("--seeds", "Invalid value")),
    Row("run --suite quick --jobs 0", ("jobs", "from 1 to 1,024")),
    Row("run --suite quick --learning-rate fast", ("learning_rate: 'fast' is no number",)),
    Row("run --suite quick --learning-rate 0", ("a learning rate must be above 0",)),
    Row("run --suite quick --engine tpu", ("engine: must be 'hf' or 'vllm'",)),
    Row(
        "run --suite quick --device meta", ("device: this value is not allowed", "auto, cpu, cuda")
    ),
    Row("run --suite quick --device mps --dry-run", ("device", "auto, cpu, cuda")),
    Row("run --suite quick --set threads=99999", ("threads", "from 1 to 1,024")),
    Row("run --suite quick --set threads=-1", ("threads", "from 1 to 1,024")),
    Row("run --suite quick --set", ("--set",)),
    Row("run --suite quick --set threads", ("--set 'threads': write --set key=value",)),
    Row("run --suite quick --set thread=3", ("unknown setting 'thread'", "Did you mean 'threads'")),
    Row("run --suite quick --set experience.dev_items=3", ("--set dev_items=3",)),
    Row("run --suite quick --set experience.items=3", ("--set 'experience={items = 3}'",)),
    Row(("run", "--suite", "quick", "--set", "threads=" + "9" * 5000), ("too many digits",)),
    Row(("run", "--suite", "quick", "--set", "vllm_options=" + "[" * 5000), ("levels deep",)),
    Row(
        ("run", "--suite", "quick", "--set", "temperature=" + "9" * 400), ("temperature", "finite")
    ),
    Row(
        "run --suite quick --seeds 9999 --set learning_rate=[1e-3,1e-4,1e-5] --dry-run",
        ("the most is 100,000",),
    ),
    Row("run --suite quick --context none.txt", ("context 'none.txt': there is no such file",)),
    Row("run --suite quick --context .", ("is a folder, not a file",)),
    Row(
        "run --suite quick --context long.txt --dry-run",
        ("long.txt", "the most is"),
        {"long.txt": "rule " * 2_000_000},
    ),
    Row(
        "run --suite quick --context long.txt --dry-run",
        ("tokens", "Give a shorter context"),
        {"long.txt": "rule " * 20_000},
    ),
    Row(
        "estimate --suite quick --context long.txt",
        ("tokens", "Give a shorter context"),
        {"long.txt": "rule " * 20_001},
    ),
    Row(
        "run --methods ./hints.py --tasks frozen_lake --dry-run",
        ("have none", "teacher.reads = 'context'"),
        {"hints.py": HINTS},
    ),
    Row(
        "estimate --methods ./hints.py --tasks frozen_lake",
        ("have none", "teacher.reads = 'context'"),
        {"hints.py": HINTS},
    ),
    Row("run --suite quick --retention nosuch --dry-run", ("unknown retention task 'nosuch'",)),
    Row("run --suite quick --retention nothing --dry-run", ("unknown retention task 'nothing'",)),
    Row("run --suite quick --retention mmlu_stem --dry-run", ("is a group of lm-eval tasks",)),
    *(
        Row(
            f"{command} --output-dir notes.txt",
            ("a file is where a folder is needed (notes.txt)", "another folder with --output-dir"),
            {"notes.txt": "mine"},
        )
        for command in (
            "run --suite quick --dry-run",
            "run --suite quick",
            "estimate --suite micro",
        )
    ),
    Row(
        "run --suite quick --dry-run --output-dir /proc/x",
        ("/proc/x: cannot be written", "with --output-dir"),
    ),
    Row("run --suite quick --retention gsm8kk", ("Did you mean 'gsm8k'",)),
    Row("estimate --suite quick --retention gsm8kk", ("Did you mean 'gsm8k'",)),
    Row(
        "run --suite quick --set max_completion_length=99999 --dry-run",
        ("max_completion_length = 99999", "2048 tokens in all"),
    ),
    Row("run --suite quick --set max_completion_length=99999", ("Lower it below 2048",)),
    Row("estimate --suite quick --set max_completion_length=99999", ("Lower it below 2048",)),
    Row(
        "run --suite quick --set retention_max_completion_length=2048 --dry-run",
        ("retention_max_completion_length = 2048", "Lower it below 2048"),
    ),
    Row("run --suite quick --report-to wandb --dry-run", ("wandb is not installed", "pip install")),
    Row("run --suite quick --set optim=adamw_8bit --dry-run", ("bitsandbytes is not installed",)),
    Row("run --suite quick --model ./none --dry-run", ("model folder ./none does not exist",)),
    Row("run --suite quick --model ./none", ("model folder ./none does not exist",)),
    Row(("run", "--suite", LONG), ("unknown suite",)),
    Row(("run", "--suite", f"./{LONG}.toml"), ("File name too long",)),
    Row(("run", "--suite", "quick", "--output-dir", LONG, "--dry-run"), ("File name too long",)),
    Row(("run", "--suite", "quick", "--model", f"./{LONG}", "--dry-run"), ("File name too long",)),
    Row(("run", "--suite", "quick", "--context", LONG), ("File name too long",)),
    Row(
        ("run", "--suite", "quick", "--data-dir", LONG, "--tasks", "gsm8k"), ("File name too long",)
    ),
    Row(("run", "--methods", f"./{LONG}.py", "--tasks", "rule_math"), ("File name too long",)),
    Row(("run", "--suite", "qu\udcffick"), ("half a surrogate pair",)),
    Row(("run", "--suite", "qu\0ick"), ("NUL",)),
    Row(
        "run --suite mine.toml",
        ("[experience]", "a setting of the suite itself"),
        {"mine.toml": SUITE + "[experience]\ndev_items = 3\n"},
    ),
    Row(
        "run --suite mine.toml",
        ("experience.item: no such setting; did you mean 'items'?",),
        {"mine.toml": SUITE + "[experience]\nitem = 3\n"},
    ),
    Row(
        "run --suite mine.toml",
        ("items x seeds", "1,000,000"),
        {"mine.toml": SUITE + "[experience]\nitems = 1000000\nseeds = 2\n"},
    ),
]
