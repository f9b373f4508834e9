"""Small data sets in the schemas that the published ones document, for tests without a network."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Samples of the published sets, beside a checkout; tests that need them skip without."""

HEAD = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem."
)
TAIL = 'Remember to put your answer on its own line after "Answer:".'


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_csv(path: Path, rows: list[Mapping[str, Any]], separator: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def gsm8k_row(number: int) -> dict[str, str]:
    return {
        "question": f"Ada has {number} crates of {number + 2} pears. How many pears has she?",
        "answer": f"She has {number}*{number + 2}=<<{number}*{number + 2}={number * (number + 2)}>>"
        f"{number * (number + 2)} pears.\n#### {number * (number + 2):,}",
    }


def dapo_row(problem: str, answer: str, column: str = "prompt") -> dict[str, Any]:
    """A row of DAPO-Math-17k, or (``content``) of the sets that were made from it."""
    chat = [{"role": "user", "content": f"{HEAD}\n\n{problem}\n\n{TAIL}"}]
    return {
        "data_source": "math_dapo",
        column: chat,
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"id of {problem[:8]}"},
    }


def medmcqa_row(number: int, first: int = 0) -> dict[str, Any]:
    """``cop`` counts from ``first``."""
    return {
        "id": f"row {number}",
        "question": f"Which nerve has the number {number}?",
        "opa": f"Nervus {number}",
        "opb": f"Nervus {number + 1}",
        "opc": f"Nervus {number + 2}",
        "opd": f"Nervus {number + 3}",
        "cop": number % 4 + first,
        "choice_type": "single",
        "exp": f"It is the nerve at place {number}.",
        "subject_name": "Anatomy",
        "topic_name": None,
    }


def hatecheck_row(template: int, group: str) -> dict[str, Any]:
    hateful = template % 3 > 0
    said = "I cannot stand" if hateful else "I like to meet"
    return {
        "functionality": "derog_neg_emote_h" if hateful else "ident_pos_nh",
        "case_id": f"{template}-{group}",
        "test_case": f"{said} {group}, and that is remark number {template}.",
        "label_gold": "hateful" if hateful else "non-hateful",
        "target_ident": group,
        "templ_id": template,
    }


def write_gsm8k(folder: Path) -> None:
    write_jsonl(folder / "gsm8k" / "train.jsonl", map(gsm8k_row, range(60)))
    write_jsonl(folder / "gsm8k" / "test.jsonl", map(gsm8k_row, range(60, 80)))


def write_dapo_math(folder: Path) -> None:
    """The one file of DAPO-Math-17k: every row several times, some of them in Chinese."""
    rows = [
        dapo_row(f"Find the sum of {n} and $n^2$ for n = {n}.", f"{n + n * n}") for n in range(80)
    ]
    rows += [dapo_row(f"求 {n} 与 {n} 的和。", str(2 * n)) for n in range(10)]
    write_parquet(folder / "dapo_math" / "dapo-math-17k.parquet", rows * 3)


def write_medmcqa(folder: Path) -> None:
    write_jsonl(folder / "medmcqa" / "train.json", (medmcqa_row(n) for n in range(80)))
    write_jsonl(folder / "medmcqa" / "validation.json", (medmcqa_row(n) for n in range(80, 110)))


def write_safety(folder: Path) -> None:
    for split, numbers in (
        ("train", range(60)),
        ("validation", range(60, 80)),
        ("test", range(80, 120)),
    ):
        tweets = [{"text": f"@user tweet {n} #tag", "label": n % 2} for n in numbers]
        write_parquet(
            folder / "tweet_eval" / "offensive" / f"{split}-00000-of-00001.parquet", tweets
        )
    groups = ("women", "immigrants", "Muslims")
    cases = [hatecheck_row(template, group) for template in range(50) for group in groups]
    write_csv(folder / "hatecheck" / "test.csv", cases)
    comments = [
        {"comment": f"Comment {n}; said, aloud", "isHate": f"{n % 5 / 4}"} for n in range(80)
    ]
    write_csv(folder / "ethos" / "Ethos_Dataset_Binary.csv", comments, ";")


def write_all(folder: Path) -> Path:
    """Every data set that a task reads."""
    for write in (write_gsm8k, write_dapo_math, write_medmcqa, write_safety):
        write(folder)
    return folder
