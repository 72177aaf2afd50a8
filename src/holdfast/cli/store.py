"""`holdfast store`: looks at a storage place itself."""

from dataclasses import asdict

import typer

from holdfast.cli import repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look at a storage place.")


@app.callback()
def group() -> None:
    """Looks at a storage place."""


@app.command()
def probe(ctx: typer.Context) -> None:
    """Tries out what a place really does before it is trusted: moves about 25 MiB, and cleans up.

    Ends with 1 where backups would not be safe there.
    """
    from holdfast.store.probe import Verdict
    from holdfast.store.probe import probe as try_out

    settings = settings_of.of(ctx)
    output = Output(settings)
    store = repository.open_place(settings, output)
    try:
        findings = try_out(store)
    finally:
        store.close()
    marks = {Verdict.GOOD: "ok  ", Verdict.MIND: "mind", Verdict.BAD: "BAD "}
    for finding in findings:
        if output.json:
            output.message("finding", **asdict(finding))
        else:
            output.line(f"{marks[finding.verdict]}  {finding.subject}: {finding.message}")
    counts = {verdict: sum(each.verdict is verdict for each in findings) for verdict in Verdict}
    if output.json:
        output.message("summary", **counts)
    else:
        bad = counts[Verdict.BAD]
        output.said(f"\n{bad} bad: do not keep backups there" if bad else "\nfit for backups")
    if counts[Verdict.BAD]:
        raise typer.Exit(1)
