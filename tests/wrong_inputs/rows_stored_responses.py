"""Wrong inputs: methods that train on stored responses which are not there, or fit no example."""

import json

from row import Row

METHOD = '''"""A method of a contributor."""

from opcd_bench import Method, named, stored

METHOD = Method("mine", "Its own.", "a test", stored("given"), named("nll"))
'''
ASKED = ("run", "run --dry-run", "estimate")
ATTEMPT = {
    "example_id": "0123456789abcdef", "outcome": "wrong", "score": 0.0, "answer": None, "why": "no",
    "feedback": "", "turns": [{"messages": [], "prompt_ids": [], "reply": "a", "ids": [5],
                               "logprobs": [0.0], "finish": "stop"}],
}  # fmt: skip
FILES = {
    "No such file or directory; give a JSONL file": {},
    "no .jsonl file lies below this folder": {"given/notes.txt": "mine"},
    "the file is empty": {"given": ""},
    "its files are empty": {"given/a/step_000001.jsonl": ""},
    "given, line 2: this is not a stored trajectory": {"given": json.dumps(ATTEMPT) + "\n{}\n"},
    "given, line 1: no row of JSON (Expecting value": {"given": "mine\n"},
    "given/b.jsonl, line 1: ": {"given/a.jsonl": json.dumps(ATTEMPT), "given/b.jsonl": b"\xff"},
    "have no response there (the first: ": {"given": json.dumps(ATTEMPT)},
}
"""What is said -> what lies there."""

ROWS = [
    Row(f"{command} --methods ./mine.py --tasks rule_math", ("method 'mine': stored responses given"
        if "line" not in says else "method 'mine': ", says), {"mine.py": METHOD, **files})
    for says, files in FILES.items()
    for command in ASKED
]  # fmt: skip
