"""Participant level: for each image a config, kept beside its results, and a run of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.blocks.events import Events
from pipeline.commands.bids.images import Choice, ImageInputs, find_inputs, images_of, mask_search, participants_of
from pipeline.config.bids import RESULTS, BidsImage
from pipeline.config.names import REPORT, stem_of
from pipeline.config.schema import overridden
from pipeline.errors import BlockFailed, ConfigError, Interrupted, OutputConflict, PipelineError, SourceError
from pipeline.output.dataset import require_ours
from pipeline.provenance.published import Publisher
from pipeline.run import run
from pipeline.system.files import write_json, write_text
from pipeline.system.room import what_to_do
from pipeline.system.words import counted, listed

_DECIDED = ("input.source", "input.auxiliary", "mask", "output.directory", "output.bids")
"""Keys of a config that are found for each image."""
_NEVER_FOLDED = 10_000
_HEAD = """\
# Made by `inpaint-pipeline bids`, which makes it again: to change something, edit a copy.
# The same result without it: inpaint-pipeline run {name}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivativePaths:
    """Where config, results and report of an image lie in the data set of derivatives `target`."""

    target: Path
    image: BidsImage

    @property
    def stem(self) -> str:
        """Name of the image without suffixes."""
        return stem_of((str(self.image.path),))

    @property
    def folder(self) -> Path:
        """Folder of the config and of `run.json`."""
        return self.target / RESULTS / self.stem

    @property
    def results(self) -> Path:
        """Folder of record and report."""
        return self.folder / self.stem

    @property
    def config(self) -> Path:
        """The config."""
        return self.folder / "config.yaml"

    @property
    def outcome(self) -> Path:
        """What the last participant level said of the image, for the table."""
        return self.folder / "outcome.json"


def participant(
    choice: Choice, target: Path, overrides: Sequence[str], *, overwrite: bool, events: Events
) -> dict[str, Any]:
    """Restore the images of a data set that are chosen; images without a mask are said and left.

    Args:
        choice: which images.
        target: data set of derivatives, absolute.
        overrides: `a.b=VALUE` for the config of each.
        overwrite: results of another config or input may be replaced.
        events: hears of progress.

    Returns:
        `images`: an entry each, with its `state`: `done`, `no mask`, or `nothing to restore` of a series that lost no
        slice; `no image` for participants without any.

    Raises:
        ConfigError: the data set has nothing that is chosen, or nothing with a mask.
        OutputConflict: `target` is the data set of something else.
        BlockFailed: some images failed; of a single one its own error.
    """
    _refuse(choice, target, overrides)
    images = images_of(choice)
    entries: list[dict[str, Any]] = []
    failure: PipelineError | None = None
    for number, image in enumerate(images, start=1):
        paths = DerivativePaths(target=target, image=image)
        events.notice(paths.stem, f"image {number} of {len(images)}")
        try:
            entry = _restored(choice, paths, overrides, overwrite=overwrite, events=events)
        except Interrupted:
            raise
        except (PipelineError, OSError) as error:
            failure = error if isinstance(error, PipelineError) else SourceError(f"{image.path}: {error}")
            entry = {"state": "failed", "error": str(failure), "exit_code": failure.exit_code}
            if len(images) > 1:
                events.failed(paths.stem, failure)
        _note(paths, entry)
        entries.append({"image": paths.stem} | entry)
    if failure is not None:
        raise failure if len(images) == 1 else _some_failed(entries)
    entries += without_images(choice, images)
    if all(entry["state"] in ("no mask", "no image") for entry in entries):
        said = listed([f"{entry['image']}: {entry['error']}" for entry in entries], "; ")
        raise ConfigError(f"nothing to restore: {said}. --mask-pattern and --mask-dir name other masks")
    return {"images": entries}


def participants_text(facts: Mapping[str, Any], target: Path) -> str:
    """Return what became of each image, and where it is."""
    lines = []
    for entry in facts["images"]:
        done = entry["state"] == "done"
        what = f"{entry['account']}; {entry['derivative']}, report {entry['report']}" if done else entry["error"]
        lines.append(f"{entry['image']}: {what}")
        if entry.get("judgement"):
            lines.append(f"{entry['image']}: {entry['judgement']}")
    done = sum(entry["state"] == "done" for entry in facts["images"])
    return "\n".join([*lines, f"{done} of {counted(len(facts['images']), 'image')} restored in {target}"])


def _refuse(choice: Choice, target: Path, overrides: Sequence[str]) -> None:
    """Refuse what would write into the data set that is read, or decide what is found for each image."""
    root = choice.root.resolve()
    inside = target.relative_to(root).parts if target.is_relative_to(root) else ("elsewhere",)
    if not inside or inside[0].startswith("sub-"):
        raise OutputConflict(
            f"{target}: derivatives need a folder of their own, e.g. {choice.root / 'derivatives' / 'inpaint-pipeline'}"
        )
    require_ours(target)
    for text in overrides:
        key = text.partition("=")[0].strip()
        if any(key == decided or key.startswith(f"{decided}.") for decided in _DECIDED):
            raise ConfigError(f"--set {text}: `inpaint-pipeline bids` finds {key} for each image; leave it out")
    # what is wrong for one is wrong for all
    overridden({"input": {"source": "image"}, "mask": choice.entries([Path("mask")])}, (), Path("--buffer"))
    overridden({"input": {"source": "image"}}, overrides, Path("config.yaml"))


def _some_failed(entries: Sequence[Mapping[str, Any]]) -> BlockFailed:
    bad = [entry for entry in entries if entry["state"] == "failed"]
    said = listed([f"{entry['image']} ({entry['error']})" for entry in bad], "; ")
    return BlockFailed(
        f"{len(bad)} of {counted(len(entries), 'image')} failed: {said}. The others are finished; remove the "
        "causes and run again"
    )


def without_images(choice: Choice, images: Sequence[BidsImage]) -> list[dict[str, Any]]:
    """Return an entry for each participant that is chosen and has no image that is."""
    having = {image.name.entities["sub"] for image in images}
    said = f"no {' or '.join(choice.modalities)} image" + (" of these sessions" if choice.sessions else "")
    without = [label for label in participants_of(choice) if label not in having]
    return [{"image": f"sub-{label}", "state": "no image", "error": said} for label in without]


def _note(paths: DerivativePaths, entry: Mapping[str, Any]) -> None:
    """Keep what became of an image for the table, without the folders that it lies in: they may be private."""
    known = (str(paths.image.path), str(paths.target))
    publisher = Publisher(folder=paths.target, base=paths.folder.resolve(), known=known)
    shown = {key: publisher.text(value) if key == "error" else value for key, value in entry.items()}
    kept: dict[str, Any] = {key: shown[key] for key in ("state", "error", "exit_code") if key in shown}
    with suppress(OSError):
        # a folder that cannot be written is what the entry says already
        paths.folder.mkdir(parents=True, exist_ok=True)
        write_json(paths.outcome, kept, shared=True)


def _restored(
    choice: Choice, paths: DerivativePaths, overrides: Sequence[str], *, overwrite: bool, events: Events
) -> dict[str, Any]:
    """Restore one image and return what became of it."""
    found = find_inputs(paths.image, choice)
    for remark in found.remarks:
        events.notice(paths.stem, remark)
    if not found.mask:
        off_grid = "".join(f"{remark}; " for remark in found.remarks)
        if paths.image.name.suffix == "bold":
            return {"state": "nothing to restore", "error": f"{off_grid}no slice is lost in some volumes only"}
        return {
            "state": "no mask",
            "error": f"{off_grid}no mask was found; looked for {mask_search(paths.image, choice)}",
        }
    before = paths.config.read_text(encoding="utf-8") if paths.config.exists() else None
    _write_config(paths, found, overrides)
    events.notice(paths.stem, _said(found))
    try:
        (done,) = run(paths.config, overwrite=overwrite, events=events)["sources"]
    except OutputConflict:
        if before is not None:
            # the results are those of the config before
            write_text(paths.config, before, shared=True)
        raise
    return {
        "state": "done",
        "derivative": done["derivative"],
        "report": (paths.results / REPORT).relative_to(paths.target).as_posix(),
        "account": done["holes"]["account"],
        "judgement": done["judgement"]["said"] if "judgement" in done else None,
        "masks": [entry.get("path", f"slices of {counted(len(entry.get('volumes', ())), 'volume')}")
                  for entry in found.mask],
        "guides": [guide["path"] for guide in found.auxiliary],
        "remarks": list(found.remarks),
    }  # fmt: skip


def _said(found: ImageInputs) -> str:
    masks = [Path(entry["path"]).name for entry in found.mask if "path" in entry]
    lost = sum(len(entry["slices"]) * len(entry["volumes"]) for entry in found.mask if "slices" in entry)
    said = [*masks, *([counted(lost, "lost slice")] if lost else [])]
    guides = ", ".join(Path(guide["path"]).name for guide in found.auxiliary)
    return f"to restore: {', '.join(said)}" + (f"; guided by {guides}" if guides else "")


def _write_config(paths: DerivativePaths, found: ImageInputs, overrides: Sequence[str]) -> None:
    """Write the config of an image; its paths are relative to it, so that data set and derivatives can move together.

    Raises:
        ConfigError: an override is no key of a config.
        OutputConflict: the folder cannot be written.
    """
    source: dict[str, Any] = {"source": str(paths.image.path)}
    if found.auxiliary:
        source["auxiliary"] = list(found.auxiliary)
    if any(entry["kind"] == "slices" for entry in found.mask):
        # a lost slice may be NaN, which no mask by number claims
        source["fill_nodata"] = "inside"
    config = {"input": source, "mask": list(found.mask), "output": {"directory": ".", "bids": "../.."}}
    try:
        paths.folder.mkdir(parents=True, exist_ok=True)
        # read from where it lies, not by a symbolic link
        here = paths.folder.resolve()
        text, yaml = StringIO(), YAML()
        yaml.width = _NEVER_FOLDED
        yaml.dump(overridden(_relative(config, here), overrides, paths.config), text)
        write_text(paths.config, _HEAD.format(name=paths.config.name) + text.getvalue(), shared=True)
    except OSError as error:
        todo = what_to_do(paths.folder, error, "choose another")
        raise OutputConflict(f"{paths.folder}: cannot write ({error.strerror or error}); {todo}") from error


def _relative(value: Any, folder: Path) -> Any:
    """Return the values of a config with absolute paths as seen from a folder."""
    if isinstance(value, Mapping):
        return {key: _relative(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_relative(item, folder) for item in value]
    return os.path.relpath(value, folder) if isinstance(value, str) and value.startswith("/") else value
