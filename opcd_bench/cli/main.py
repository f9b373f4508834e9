"""The `opcd-bench` command: its subcommands, and what a user sees of an error."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from opcd_bench.cli import (
    audit,
    check,
    compare,
    contexts,
    doctor,
    estimate,
    extract,
    hub_retries,
    import_gguf,
    import_lm_eval,
    interrupt,
    listed_settings,
    methods,
    micro,
    new,
    output,
    probe,
    repeated,
    report,
    run,
    select,
    settings,
    show,
    status,
    suites,
    tasks,
    verify,
)
from opcd_bench.config.validated import PLAINLY
from opcd_bench.errors import ConfigError, UserError
from opcd_bench.printable import printable
from opcd_bench.store import user_files
from opcd_bench.version import __version__

USER_ERROR = 2
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""What the parser raises for words that it cannot read."""
EXTRA = "Got unexpected extra argument"
TYPED = {
    r"Input should be a valid integer\b.*": PLAINLY["int_type"],
    r"Input should be a valid number\b.*": PLAINLY["float_type"],
}
"""What the parser says of an option's value, and the same in fewer words."""


class Commands(TyperGroup):
    """The subcommands; a signal that none of them answers ends in one line, not in `Abort`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand that was typed."""
        repeated.refuse(self, ctx.obj or ())
        try:
            with interrupt.still_a_signal():
                return super().invoke(ctx)
        except USAGE_ERROR as error:
            told: Any = error
            for said, plainly in TYPED.items():
                told.message = re.sub(said, plainly, told.message)
            inner = getattr(told.ctx, "command", None)
            if told.message.startswith(EXTRA) and inner is not None:
                told.message += settings.instead_of_extra(
                    ctx.obj or (), told.ctx.command_path, [one.name for one in inner.params]
                )
            raise
        except KeyboardInterrupt:
            interrupt.say()
            raise typer.Exit(interrupt.code()) from None


app = typer.Typer(
    name="opcd-bench",
    cls=Commands,
    help="Compare methods of context distillation for language models: what each one gains, and "
    "what it forgets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("estimate")(estimate.estimate)
app.command("methods")(methods.methods)
app.command("tasks")(tasks.tasks)
app.command("suites")(suites.suites)
app.command("settings")(listed_settings.listed_settings)
app.command("show")(show.show)
app.command("status")(status.status)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("contexts")(contexts.contexts)
app.add_typer(probe.app, name="probe")
app.command("import-gguf")(import_gguf.import_gguf)
app.command("import-lm-eval")(import_lm_eval.import_lm_eval)
app.command("verify")(verify.verify)
app.command("check")(check.check)
app.add_typer(new.app, name="new")
app.command("audit")(audit.audit)
app.command("doctor")(doctor.doctor)
app.command("extract")(extract.extract)
app.command("select")(select.select)
app.add_typer(micro.app, name="micro")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"opcd-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the subcommand."""


def entry(arguments: Sequence[str] | None = None) -> None:
    """Run a command line; a user's error is one message and exit code 2, ours a traceback."""
    words = tuple(sys.argv[1:] if arguments is None else arguments)
    helped = {"-h", "--help"} & set(words)
    alone = output.json_alone() if "--json" in words and not helped else contextlib.nullcontext()
    hub_retries.said_once()
    with interrupt.stoppable():
        try:
            _refuse_no_text(words)
            settings.refuse_early_options(words)
            settings.refuse_options_of_set(words)
            with alone, output.warnings_as_lines():
                app(args=list(words), prog_name="opcd-bench", obj=words)
        except UserError as error:
            _leave(str(error))
        except OSError as error:
            if not user_files.is_path_error(error):
                raise
            path = user_files.shown(error.filename)
            _leave(f"{path}: {error.strerror}. Check the path, or give another")
        except SystemExit as left:
            if arguments is None and left.code == interrupt.code():
                interrupt.leave()
            raise


def _refuse_no_text(words: Sequence[str]) -> None:
    """Raise ConfigError for a word that no file name, setting or message can hold."""
    for number, word in enumerate(words, 1):
        if problem := user_files.bad_text(word):
            raise ConfigError(
                f"command line: word {number}: {problem}; write it as UTF-8 text: "
                f"{user_files.shown(word)!a}"
            )


def _leave(message: str) -> NoReturn:
    print(f"opcd-bench: {printable(message)}", file=sys.stderr)
    sys.exit(USER_ERROR)
