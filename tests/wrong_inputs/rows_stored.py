"""Wrong inputs of `show`, `report`, `compare`, `contexts` and `verify`."""

from row import Row

NONE = ("There are no results in results", "opcd-bench run --suite quick")
SUITE = {"results/toys/suite.json": '{"name": "toys", "summary": ""}\n'}
FOREIGN = {"notes/a.txt": "mine"}
NEITHER = ("is neither a run (no config.json) nor a suite (no suite.json)", "results/quick")

ROWS = [
    *(
        Row(f"{command} {word}", words, files)
        for command in ("show", "report", "verify", "contexts", "compare toys", "compare")
        for word, words, files in (
            (f"nosuch{' b' if command == 'compare' else ''}", ("unknown run or suite 'nosuch'",
             *NONE), None),
        )
        if command != "compare toys"
    ),
    *(
        Row(f"{command} toyz", ("unknown run or suite 'toyz'", "Did you mean 'toys'"), SUITE)
        for command in ("show", "report", "verify", "contexts")
    ),
    *(
        Row(f"{command} notes", NEITHER, FOREIGN)
        for command in ("show", "report", "verify", "contexts")
    ),
    *(
        Row(command, ("Missing argument",))
        for command in ("show", "report", "verify", "contexts", "compare", "compare a")
    ),
    *(
        Row(f"{command} toys --jsn", ("No such option", "--json"), SUITE)
        for command in ("show", "report", "verify", "contexts", "compare a")
    ),
    Row("compare toyz toys", ("unknown run or suite 'toyz'", "Did you mean 'toys'"), SUITE),
    Row("compare toys toys", ("is a suite, not a run", "opcd-bench report"), SUITE),
    Row("compare notes notes", NEITHER, FOREIGN),
    Row("report toys --every 0", ("--every", "greater"), SUITE),
    Row("report toys --every soon", ("--every", "must be a number"), SUITE),
    Row("report --output-dir other nosuch", ("There are no results in other",)),
    Row("show --output-dir other nosuch", ("There are no results in other",)),
    Row("contexts toys nosuch", ("unknown run or suite 'nosuch'", "Known: toys"), SUITE),
    Row("show toys toys", ("unexpected extra argument",), SUITE),
    Row("verify toys toys", ("unexpected extra argument",), SUITE),
]  # fmt: skip
