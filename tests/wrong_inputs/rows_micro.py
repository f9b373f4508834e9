"""Wrong inputs of `opcd-bench micro`."""

from row import Row

ROWS = [
    Row("micro pretrain --device foo", ("device 'foo' does not exist", "'cpu'")),
    Row("micro pretrain --device cuda:x", ("device 'cuda:x' does not exist",)),
    Row("micro pretrain --out notes", ("holds something else", "--out"), {"notes/a": "mine"}),
    Row("micro pretrain --out file", ("is no folder", "--out"), {"file": "mine"}),
    Row("micro pretrain --out file/below", ("cannot be written", "--out"), {"file": "mine"}),
    Row("micro pretrain --out link", ("is no folder", "--out"),
        {"link": lambda path: path.symlink_to("nowhere")}),
    Row("micro pretrain --out made", ("damaged", "recipe.json"), {"made/recipe.json": "{"}),
    Row("micro pretrain --tokens 0", ("--tokens", "greater")),
    Row("micro pretrain --tokens all", ("--tokens", "must be a whole number")),
    Row("micro pretrain --seed x", ("--seed", "must be a whole number")),
    Row("micro card nosuch", ("has no card yet", "opcd-bench micro card nosuch --measure")),
    Row("micro card . --json", ("has no card yet", "--measure")),
    Row("micro card --items 0 --measure", ("--items", "greater")),
    Row("micro card --measure --pretraining nosuch", ("nosuch/recipe.json",)),
    Row("micro card --measure --pretraining p", ("no step is logged yet",),
        {"p/recipe.json": "{}", "p/log.jsonl": ""}),
    Row("micro path here", ("unexpected extra argument",)),
    Row("micro pretrian", ("No such command 'pretrian'", "pretrain")),
]  # fmt: skip
