"""Wrong inputs: plugins whose code raises, ends the process or starts threads."""

from row import Row

METHOD = '''"""A method of a contributor."""

from opcd_bench import STUDENT, Method, named

METHOD = Method("mine", "Its own.", "a test", STUDENT, named("rkl_tail", k=16))
'''
ENDS = {
    "import os; os._exit(0)": "while it was imported, its process ended (exit code 0)",
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM)": "its process ended (SIGTERM)",
    "raise KeyboardInterrupt": "importing it raises KeyboardInterrupt",
    "raise SystemExit(0)": "SystemExit: 0",
    "class Own(BaseException): pass\nraise Own('no')": "Own: no",
    "raise GeneratorExit": "GeneratorExit",
    "def f(): f()\nf()": "RecursionError",
    "import nosuchmodule": "No module named 'nosuchmodule'",
    "import threading, time; threading.Thread(target=time.sleep, args=(99,)).start()": (
        "importing it starts a thread that does not end"
    ),
}
"""Lines at the end of a method's file, and what is said of it."""


TASK = '''"""A task of a contributor."""

from opcd_bench import Context, DataTask, Example, Grade


class Mine(DataTask):
    """Asks nothing."""

    name, version, summary = "mine", 1, "Asks nothing."

    def context(self):
        return Context("Nothing.")

    @classmethod
    def load(cls, data_dir):
        LINE

    def question(self, example):
        return "What?"

    def graded(self, example, reply):
        return Grade(1.0, None, "")


TASK = Mine
'''
NO_DATA = {
    "raise RuntimeError('no data')": "mine.py: its code fails: RuntimeError: no data",
    "raise SystemExit(3)": "mine.py: its code fails: SystemExit: 3",
    "return dict.fromkeys(('train', 'dev', 'test'), [Example({'n': 1})])":
        "is in both 'train' and 'dev'",
}  # fmt: skip
"""What the ``load`` of a task does, and what is said of it."""


FAILS = {
    "def floors(self, examples): return [1 / 0]":
        "its code fails (floors and best_possible of train): ZeroDivisionError",
    "def probes(self): return {}['none']": "its code fails (probes): KeyError: 'none'",
    "leak_patterns = ('(',)": "task 'mine': leak_patterns: '(' is no regular expression",
    "def open(self, example, seed): raise OSError('gone')":
        "its code fails (an episode of train): OSError: gone",
    "def graded(self, example, reply): return None": "its code fails (an episode of train)",
    "def probes(self): return [type('Q', (), {'name': 'q', 'examples': property(len)})()]":
        "its code fails (an episode of q): TypeError",
    "def examples(self, split): return {'one': super().examples(split)[0]}.values()":
        "its code fails",
}  # fmt: skip
"""Lines at the end of a task's class that only a run would come to, and what is said of them."""


def failing(line: str) -> dict[str, str]:
    loads = "return {split: [Example({'n': split})] for split in ('train', 'dev', 'test')}"
    whole = TASK.replace("LINE", loads).replace("\n\n\nTASK =", f"\n\n    {line}\n\n\nTASK =")
    return {"mine.py": whole}


def mine(line: str) -> dict[str, str]:
    return {"mine.py": f"{METHOD}{line}\n"}


ROWS = [
    *(Row(f"{command} --tasks ./mine.py --methods opcd", (says,),
          {"mine.py": TASK.replace("LINE", line)})
      for line, says in NO_DATA.items() for command in ("estimate", "run --dry-run")),
    *(Row(f"{command} --tasks ./mine.py --methods opcd", ("mine", says), failing(line))
      for line, says in FAILS.items() for command in ("estimate", "run --dry-run", "run")),
    *(Row("methods ./mine.py", ("broken: ./mine.py", says), mine(line), 1) for line, says in
      ENDS.items()),
    *(Row("run --methods ./mine.py --tasks rule_math --dry-run", ("mine.py", says), mine(line))
      for line, says in list(ENDS.items())[::2]),
    Row("run --methods ./mine.py --tasks rule_math --dry-run", ("holds no", "METHOD")[1:],
        {"mine.py": '"""None."""\n'}),
    Row("run --methods ./mine.py --tasks rule_math --dry-run", ("METHOD is a int",),
        {"mine.py": '"""A number."""\nMETHOD = 3\n'}),
    Row("run --methods ./other.py --tasks rule_math --dry-run", ("give both one name",),
        {"other.py": METHOD}),
    Row("run --methods ./mine.py --tasks rule_math --dry-run", ("there is no such file",)),
    Row("run --methods ./mine.txt --tasks rule_math --dry-run", ("is no Python file",),
        {"mine.txt": METHOD}),
    Row("run --methods ./opcd.py --tasks rule_math --dry-run", ("the name 'opcd' is taken by",),
        {"opcd.py": METHOD}),
    Row("run --methods opcd --tasks ./mine.py --dry-run", ("has no TASK",), {"mine.py": METHOD}),
    Row("run --methods ./mine.py --tasks rule_math --dry-run", ("source code", "null bytes")[1:],
        {"mine.py": METHOD.encode() + b"\x00"}),
    Row("run --methods ./mine.py --tasks rule_math --dry-run", ("SyntaxError",),
        {"mine.py": METHOD.encode() + b"x = '\xff'\n"}),
]  # fmt: skip
