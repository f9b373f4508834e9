"""Wrong inputs of `probe`."""

from row import Row

SUITE = {"results/toys/suite.json": '{"name": "toys", "summary": ""}\n'}
ALONE = {"alone/config.json": "{}\n"}
KINDS = ("prefix", "optimum")

ROWS = [
    Row("probe", ("Usage", "prefix", "optimum")),
    Row("probe suffix", ("No such command", "suffix")),
    *(
        row
        for kind in KINDS
        for row in (
            Row(f"probe {kind}", ("name what is probed", f"opcd-bench probe {kind} RUN")),
            Row(f"probe {kind} a --model micro-small --tasks rule_math", ("not both",)),
            Row(f"probe {kind} --model micro-small", ("--model needs --tasks",)),
            Row(f"probe {kind} toys --tasks rule_math", ("belong to --model",), SUITE),
            Row(f"probe {kind} toyz", ("unknown run or suite 'toyz'", "'toys'"), SUITE),
            Row(f"probe {kind} toys", ("no run of it is finished",), SUITE),
            Row(f"probe {kind} alone", ("lies in no suite",), ALONE),
            Row(f"probe {kind} toys --items 1", ("--items",), SUITE),
            Row(
                f"probe {kind} --model micro-small --tasks rule_math --split train",
                ("'train'", "dev or test"),
            ),
            Row(f"probe {kind} --model micro-small --tasks rule_mth", ("'rule_mth'", "rule_math")),
            Row(
                f"probe {kind} --model micro-small --tasks rule_math --set temperature=0",
                ("temperature: must be 0.01 or more",),
            ),
        )
    ),
    Row(
        "probe prefix --model micro-small --tasks rule_math --temperature 0",
        ("temperature 0", "--temperature 1"),
    ),
    Row(
        "probe prefix --model micro-small --tasks rule_math --temperature -1",
        ("temperature = -1",),
    ),
    Row(
        "probe prefix --model micro-small --tasks rule_math --teachers larger",
        ("unknown teacher 'larger'", "in-context"),
    ),
    Row(
        "probe prefix --model micro-small --tasks rule_math --continuations 1", ("--continuations",)
    ),
    Row(
        "probe optimum --model micro-small --tasks rule_math --most-contexts 0",
        ("--most-contexts",),
    ),
]
