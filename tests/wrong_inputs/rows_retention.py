"""Retention tasks that cannot be: files, and the very questions of a task under another name."""

import json

from row import Row

RUN = ("run", "--methods", "opcd", "--tasks", "gsm8k", "--dry-run", "--data-dir", "data")


def rows(*numbers: int) -> str:
    return "\n".join(
        json.dumps(
            {"question": f"A farmer has {i} cows, sells 2: how many?", "answer": f"#### {i}"}
        )
        for i in numbers
    )


DATA = {
    "data/gsm8k/train.jsonl": rows(*range(40)),
    "data/gsm8k/test.jsonl": rows(*range(100, 120)),
    "data/gsm8k_cot/test.jsonl": rows(*range(100, 120)),
}

ROWS = [
    Row(
        (*RUN, "--retention", "gsm8k_cot"),
        ("'gsm8k_cot' asks 20 of its 20 questions", "(test 20)", "remove one of them"),
        DATA,
    ),
    Row(
        (*RUN, "--retention", "loss_gsm8k"),
        ("gsm8k cannot be trained on", "Remove gsm8k from tasks or loss_gsm8k from retention"),
        DATA,
    ),
    *(
        Row(
            (*RUN, "--retention", path),
            ("retention tasks are given by name", "lm_eval --include_path", "import-lm-eval"),
        )
        for path in ("./my_task.yaml", "my_task.yml", "tasks/my_task", "../my_task.yaml")
    ),
    Row((*RUN, "--retention", "./mine.py"), ("given by name", "one of the tasks only")),
]
