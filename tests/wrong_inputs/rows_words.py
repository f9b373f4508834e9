"""Wrong inputs: a setting typed as an option, and the other commands' words for the same thing."""

from row import Row

ROWS = [
    Row("run --suite quick --dev-items 5", ("--dev-items is no option", "--set dev_items=5")),
    Row("run --suite quick --eval-steps=3", ("write --set eval_steps=3",)),
    Row("estimate --suite quick --threads 2", ("write --set threads=2",)),
    Row("extract --tasks rule_maths --out o", ("unknown task", "Did you mean 'rule_math'")),
    Row("extract --task rule_maths --out o", ("unknown task", "Did you mean 'rule_math'")),
    Row("extract --tasks rule_math --out o --set itemz=3", ("unknown setting", "'items'")),
    Row("extract --tasks rule_math --out o --set items=0", ("items", "must be 1 or more")),
    Row("select --tasks rule_math --contexts c --set dev_items=0", ("dev_items",)),
    Row("select --tasks rule_math --contexts c --set dev_items", ("write --set key=value",)),
    Row("select --tasks rule_math --contexts c --set seeds=3", ("unknown setting 'seeds'",)),
    Row("run --suite quick --lr 1e-4", ("No such option: --lr", "--learning-rate 1e-4")),
    Row("run --suite quick --lr 3e-4", ("No such option: --lr", "--learning-rate 3e-4")),
    Row("run --suite quick --micro-batch-size 8", ("no option of run", "--set micro_batch_size=8")),
    Row("estimate --lr=3e-4", ("--learning-rate 3e-4",)),
    Row("run --suite quick --seeds two", ("--seeds", "must be a whole number")),
    Row("report quick --watch --every soon", ("--every", "must be a number")),
    Row("run quick", ("(quick)", "--suite NAME")),
    Row("estimate quick", ("(quick)", "--suite NAME")),
    Row("run --methods opcd, jsd --tasks rule_math", ("without spaces", "opcd,jsd")),
    Row("run --suite quick --set max_steps 5", ("Write --set max_steps=5",)),
]
