"""The `sgym` command. Each command is a module of its own; errors of sgym become one message."""

import io
import sys
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

import sgym
from sgym.cli import calibrate, check, compare, export, listing, plot, run, timeline, traces
from sgym.cli.common import console
from sgym.errors import SgymError

USAGE_ERROR = 2


class ReadableErrors(TyperGroup):
    """Print an error that was written for people as it is; let all others keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a character that the terminal cannot show becomes a question mark."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except SgymError as error:
            console(stderr=True).print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(USAGE_ERROR) from None


app = typer.Typer(
    cls=ReadableErrors,
    help="Simulate and compare schedulers for LLM serving.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sgym {sgym.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


app.command("compare")(compare.compare)
app.command("run")(run.run)
app.command("timeline")(timeline.timeline)
app.add_typer(plot.app, name="plot")
app.command("export")(export.export)
app.command("list")(listing.list_all)
app.command("check")(check.check)
app.command("schema")(check.schema)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(traces.app, name="traces")

__all__ = ["app"]
