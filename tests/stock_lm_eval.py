"""What stock lm_eval writes of a task like IFEval, made up."""

import hashlib
import json

DATE = "2026-11-24T18-59-04.198219"
STRICT = [[True], [True, False], [True, True], [False], [True]]


def sample(at, followed):
    doc = {"prompt": f"request {at}", "instruction_id_list": ["a:one", "b:two"][: len(followed)]}
    return {
        "doc_id": at,
        "doc": doc,
        "filter": "none",
        "metrics": ["prompt_level_strict_acc", "inst_level_strict_acc"],
        "doc_hash": hashlib.sha256(f"doc {at}".encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(f"prompt {at}".encode()).hexdigest(),
        "target_hash": hashlib.sha256(b"target").hexdigest(),
        "prompt_level_strict_acc": all(followed),
        "inst_level_strict_acc": followed,
        "resps": [["a reply"]],
    }


def key_of(samples):
    """lm_eval's hash of a task's samples."""
    text = "".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in samples)
    return hashlib.sha256(text.encode()).hexdigest()


def results(samples, *, task="ifeval", model="org/model", **more):
    """What lm_eval 0.4 writes of a task like IFEval."""
    whole = [s["prompt_level_strict_acc"] for s in samples]
    each = [one for s in samples for one in s["inst_level_strict_acc"]]
    return {
        "results": {
            task: {
                "alias": task,
                "sample_len": len(samples),
                "prompt_level_strict_acc,none": sum(whole) / len(whole),
                "prompt_level_strict_acc_stderr,none": 0.2,
                "inst_level_strict_acc,none": sum(each) / len(each),
                "inst_level_strict_acc_stderr,none": "N/A",
            }
        },
        "configs": {
            task: {
                "metric_list": [
                    {"metric": "prompt_level_strict_acc", "aggregation": "mean"},
                    {"metric": "inst_level_strict_acc", "aggregation": "def agg(items): ..."},
                ]
            }
        },
        "versions": {task: 4.0},
        "n-shot": {task: 0},
        "higher_is_better": {task: {"prompt_level_strict_acc": True}},
        "n-samples": {task: {"original": 541, "effective": len(samples)}},
        "lm_eval_version": "0.4.13",
        "task_hashes": {task: key_of(samples)},
        "model_source": "hf",
        "model_name": model,
        "chat_template_sha": "abc",
        **more,
    }


SAMPLES = [sample(at, followed) for at, followed in enumerate(STRICT)]


def written(folder, samples=SAMPLES, log=None, date=DATE, task="ifeval", **more):
    """The two files of a run; ``log`` replaces what the sample log holds."""
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"results_{date}.json"
    made.write_text(json.dumps(results(samples, task=task, **more)))
    logged = folder / f"samples_{task}_{date}.jsonl"
    logged.write_text("".join(json.dumps(row) + "\n" for row in (log or samples)))
    return made, logged
