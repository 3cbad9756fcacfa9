"""The command line: parse, call, print, exit code. No logic, and nothing heavy at import: `--help` must be instant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pipeline import __version__
from pipeline.commands.options import AsJson, Config, Overrides, Overwrite, Quiet, TrainingConfig
from pipeline.errors import Interrupted

_FIRST = ("config", "inspect", "plan", "run", "verify")
"""What somebody new types, in that order; the help lists the others after them."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return [*_FIRST, *(name for name in super().list_commands(ctx) if name not in _FIRST)]

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # like any other error of ours: with a line, not in silence
            raise Interrupted("interrupted; run again to continue") from None


app = typer.Typer(
    cls=_Commands,
    name="inpaint-pipeline",
    help="Restore what clouds, gaps or artefacts hid in GeoTIFF and NIfTI images of any size.\n\n"
    "Start with `inpaint-pipeline config new IMAGE -o my.yaml`, then `inpaint-pipeline plan my.yaml` and "
    "`inpaint-pipeline run my.yaml`. Every page of the documents: docs/README.md.\n\n"
    "Exit codes: 0 done, 1 bug, 2 usage or config, 3 plan refused, 4 input unreadable, 5 some parts failed, "
    "6 output exists or in use, 75 try again later, 130 interrupted (run again to continue).",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
catalog_app = typer.Typer(no_args_is_help=True, help="Named data sets of data_catalog.yaml.")
models_app = typer.Typer(no_args_is_help=True, help="Shipped weights.")
config_app = typer.Typer(no_args_is_help=True, help="Write and inspect configs.")
app.add_typer(catalog_app, name="catalog")
app.add_typer(models_app, name="models")
app.add_typer(config_app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Restore hidden pixels; observed pixels come back bit for bit."""


@app.command()
def run(
    config: Config,
    set_: Overrides,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Restore every image of a config. Run it again to continue after an interruption.

    Example: inpaint-pipeline run configs/sentinel.yaml --set output.directory=out/first
    """
    _run(config, set_, as_json=as_json, quiet=quiet, overwrite=overwrite)


def _run(config: Path, overrides: list[str], *, as_json: bool, quiet: bool, **how: bool) -> None:
    """Run, and say how each image ended."""
    from pipeline.commands.progress import loading, progress

    with loading(quiet=quiet):
        from pipeline.commands.text import run_text
        from pipeline.config.schema import load_config
        from pipeline.run import run as run_config
    # read now: who edits the config while a run goes on means the next one
    directory = load_config(config, overrides).output.directory
    with progress(quiet=quiet) as events:
        summary = run_config(config, overrides, events=events, **how)
    if as_json:
        _print_json(summary)
    elif not quiet:
        typer.echo(run_text(summary, str(directory)), err=True)


@app.command()
def shard(
    share: Annotated[str, typer.Argument(metavar="I/N", help="Which share of how many.", show_default=False)],
    config: Config,
    set_: Overrides,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compute one of N shares of the blocks, for job arrays. `assemble` then makes the files.

    Example: inpaint-pipeline shard $SLURM_ARRAY_TASK_ID/8 configs/sentinel.yaml
    """
    from pipeline.commands.progress import loading, progress

    with loading(quiet=quiet):
        from pipeline.shards import shard as compute
    with progress(quiet=quiet) as events:
        entries = compute(share, config, set_, overwrite=overwrite, events=events)
    if as_json:
        _print_json(entries)
    elif not quiet:
        from pipeline.commands.text import shares_text

        typer.echo(shares_text(entries), err=True)


@app.command()
def assemble(
    config: Config,
    set_: Overrides,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Make the files of a run whose blocks `shard` has all computed.

    Example: inpaint-pipeline assemble configs/sentinel.yaml
    """
    _run(config, set_, as_json=as_json, quiet=quiet, computed=True)


@app.command()
def plan(
    config: Config,
    set_: Overrides,
    as_json: AsJson = False,
    job_script: Annotated[
        bool, typer.Option("--show-job-script", help="Print the script of the jobs instead (executor slurm, jobqueue).")
    ] = False,
) -> None:
    """Show what a run would take: holes, memory, disk, time. Restores nothing.

    A run that would be refused is refused here, with the numbers.

    Example: inpaint-pipeline plan configs/sentinel.yaml --set compute.memory_per_worker="2 GiB"
    """
    from pipeline.commands.progress import heartbeat, loading

    with loading():
        from pipeline.commands.plan import job_scripts, plan_table
        from pipeline.commands.text import plan_text
    if job_script:
        typer.echo(job_scripts(config, set_))
        return
    with heartbeat("looks for the holes and reads samples of the images"):
        facts = plan_table(config, set_)
    _print(facts, as_json, lambda: plan_text(facts, config, set_))
    for row in facts["images"]:
        if not row["holes"]:
            typer.echo(f"warning: {row['image']}: nothing would be restored, see its notices", err=True)


@app.command()
def status(
    directory: Annotated[Path, typer.Argument(help="output.directory of a run.")], as_json: AsJson = False
) -> None:
    """Say how far each image of an output folder is.

    Example: inpaint-pipeline status out/sentinel
    """
    from pipeline.commands.status import status_table
    from pipeline.commands.text import status_text

    facts = status_table(directory)
    _print(facts, as_json, lambda: status_text(facts))


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="Folder of a run or of one image.")],
    as_json: AsJson = False,
) -> None:
    """Check finished results again. Every observed pixel is compared with the input, some patches are recomputed.

    Example: inpaint-pipeline verify out/first
    """
    from pipeline.commands.text import verification_text
    from pipeline.commands.verify import require_held, verify_table

    results = verify_table(directory)
    _print(results, as_json, lambda: verification_text(results))
    require_held(results)


@app.command()
def report(directory: Annotated[Path, typer.Argument(help="Folder of a run or of one image.")]) -> None:
    """Write report.html again from the published files. Of a batch also index.html.

    Example: inpaint-pipeline report out/sentinel
    """
    from pipeline.commands.report import rebuild_reports

    for path in rebuild_reports(directory):
        typer.echo(str(path))


@app.command()
def evaluate(
    config: Config,
    set_: Overrides,
    family: Annotated[
        list[str] | None,
        typer.Option("--family", metavar="NAME", help="Kind of holes, see docs/evaluate.md; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say which method to use, and which error to expect. Writes no image.

    Hides observed pixels, restores them, and compares a run, the network and every classical method.
    Holes are own, points, stripes, clouds, region; in volumes own, slices, blobs, region.

    Example: inpaint-pipeline evaluate configs/sentinel.yaml --family own
    """
    from pipeline.commands.progress import loading

    with loading(quiet=quiet):
        from pipeline.commands.evaluate import evaluate_table, evaluation_text, tell_on_stderr
    facts = evaluate_table(config, set_, family or (), overwrite=overwrite, tell=tell_on_stderr(quiet=quiet))
    _print(facts, as_json, lambda: evaluation_text(facts))


@app.command()
def train(
    config: TrainingConfig,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    search: Annotated[
        int | None, typer.Option("--search", metavar="N", help="Compare N configs by successive halving instead.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit weights to your own images, by hiding observed pixels.

    Example: inpaint-pipeline train configs/train_optical.yaml --resume
    """
    if search is not None:
        from pipeline.training.search import search as compare

        _show(compare(config, search, resume=resume, quiet=quiet), as_json)
        return
    from pipeline.training.loop import train as fit

    _show(fit(config, resume=resume, quiet=quiet), as_json)


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="GeoTIFF, NIfTI or zarr file, or URL; or a scene.")],
    as_json: AsJson = False,
) -> None:
    """Show what an image is: grid, bands, dtype, nodata, header. Of a volume also slices that look lost.

    Example: inpaint-pipeline inspect scene.tif
    """
    from pipeline.commands.inspect import image_table

    _show(image_table(file), as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: versions, drivers, GPU, cores, memory, disk.

    Example: inpaint-pipeline doctor
    """
    from pipeline.commands.doctor import machine_table

    _show(machine_table(), as_json)


class _Bids(TyperCommand):
    """The command stands in a chapter of its own, with its options; the list of commands needs its sentence only."""

    def make_context(self, *given: Any, **extra: Any) -> Any:
        from pipeline.commands.bids.command import command

        return command().make_context(*given, **extra)


@app.command(cls=_Bids)
def bids() -> None:
    """Restore lesions and lost slices of a BIDS data set. A BIDS App that writes derivatives.

    Example: inpaint-pipeline bids heads derivatives participant --participant-label 01 02
    """


@catalog_app.command("list")
def catalog_list(
    folder: Annotated[Path | None, typer.Option(help="Look for catalogs from here upwards.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the named data sets.

    Example: inpaint-pipeline catalog list
    """
    from pipeline.commands.catalog import catalog_rows
    from pipeline.commands.text import catalog_text

    rows = catalog_rows(folder)
    _print({row["name"]: row for row in rows}, as_json, lambda: catalog_text(rows))


@catalog_app.command("check")
def catalog_check(
    names: Annotated[list[str] | None, typer.Argument(help="Names; default all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that the files of the catalog are there and unchanged.

    Example: inpaint-pipeline catalog check demo-sentinel
    """
    from pipeline.commands.catalog import check_rows, require_right
    from pipeline.commands.text import checks_text

    rows = check_rows(names or ())
    _print(rows, as_json, lambda: checks_text(rows))
    require_right(rows)


@models_app.command("list")
def models_list(as_json: AsJson = False) -> None:
    """List the shipped weights.

    Example: inpaint-pipeline models list
    """
    from pipeline.commands.text import models_text
    from pipeline.models.base import shipped

    rows = {s.name: {"ndim": s.ndim, "summary": s.card.summary} for s in shipped()}
    _print(rows, as_json, lambda: models_text(rows))


@models_app.command("show")
def models_show(name: Annotated[str, typer.Argument(help="Name of shipped weights, or a path.")]) -> None:
    """Print the card of weights: data, licences, steps, metrics, limits.

    Example: inpaint-pipeline models show optical
    """
    from pipeline.models.base import card_text

    typer.echo(card_text(name))


@config_app.command("new")
def config_new(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Your GeoTIFF or NIfTI; several, a folder, a scene, a catalog name."),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here; default: stdout.")] = None,
) -> None:
    """Write a commented start config for your own images. Bands and masks beside them are found.

    Example: inpaint-pipeline config new scene.tif -o my.yaml
    """
    from pipeline.commands.template import config_template, write_template

    template = config_template(files, output.parent if output else ".")
    if output is None:
        typer.echo(template.text, nl=False)
    else:
        typer.echo(write_template(template, output), err=True)


@config_app.command("show")
def config_show(config: Config, set_: Overrides) -> None:
    """Print a config with every default filled in, as JSON.

    Example: inpaint-pipeline config show configs/sentinel.yaml
    """
    from pipeline.config.schema import load_config, resolved

    _print_json(resolved(load_config(config, set_)))


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of configs, for editors.

    Example: inpaint-pipeline config schema > schema.json
    """
    from pipeline.config.schema import json_schema

    _print_json(json_schema())


def _show(facts: dict[str, Any], as_json: bool) -> None:
    from pipeline.commands.text import facts_text

    _print(facts, as_json, lambda: facts_text(facts))


def _print(facts: Any, as_json: bool, said: Callable[[], str]) -> None:
    if as_json:
        _print_json(facts)
    else:
        typer.echo(said())


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=1, default=str))
