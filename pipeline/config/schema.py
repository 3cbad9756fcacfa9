"""The config of a run: one YAML file, checked against this file, with errors that name the line.

Everything a user can write is a field here; kinds of masks, models and executors come from the registry.
Values are frozen, defaults are visible (`config show`), and the JSON schema for editors is made from the same
classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from pipeline.config.compute import ComputeConfig, JobsConfig, OtherJobsConfig
from pipeline.config.fields import (
    Bands,
    DateText,
    GridText,
    Masks,
    NamedFolder,
    NamedText,
    Nodata,
    OrAlone,
    OrAuto,
    OrText,
    PatchOverlaps,
    PatchSizes,
    ResultsFolder,
    Section,
    Seed,
    SourceText,
    known_kind,
    listed,
    no_doubles,
    text_is_source,
)
from pipeline.config.options import check_options
from pipeline.config.region import RegionConfig
from pipeline.config.relative import from_working_folder
from pipeline.errors import ConfigError
from pipeline.registry import kinds, load
from pipeline.system import yaml_files
from pipeline.system.objects import Address


class ReferenceConfig(Section):
    """Another image of the same place: another date, sensor or contrast."""

    source: SourceText = Field(description="Catalog name, path, or list of files with one band each.")
    mask: Annotated[Masks | None, OrAuto()] = Field(
        default=None, description="What is hidden in it; looked for when left out."
    )
    bands: Bands | None = Field(default=None, description="Bands to use, by number from 1 or name.")
    nodata: Nodata = Field(default="auto", description="Value that means nothing was observed.")
    date: DateText | None = Field(default=None, description="Acquisition date, for the record.")
    resample: bool = Field(default=False, description="Read it on the grid of the image (linear interpolation).")
    shift: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Added to its stored numbers, to bring them to the convention of the image; left out: what the "
        "metadata of both say.",
    )


Reference = Annotated[ReferenceConfig, BeforeValidator(text_is_source), OrText()]
References = Annotated[tuple[Reference, ...], BeforeValidator(listed), OrAlone()]


class InputConfig(Section):
    """What is to be restored, and what may help."""

    source: SourceText = Field(
        description="Catalog name, path or glob; a scene of Sentinel-2 or Landsat (folder), a STAC Item; a list makes "
        "a batch, an inner list is one image."
    )
    exclude: Annotated[tuple[NamedText, ...], BeforeValidator(listed), OrAlone()] = Field(
        default=(), description="Names of files that a glob shall not take, with wildcards: '*_mask.tif'."
    )
    bands: Bands | None = Field(
        default=None,
        description="Bands (channels) to use, by number from 1 or name; default all. Of a scene by name or spectral "
        "range (red, nir); default those with its finest pixels.",
    )
    grid: GridText = Field(
        default="auto",
        description="Scenes only. auto: bands of one pixel size; each: every size as an image of its own; '10m': on "
        "that grid, pixels of coarser bands repeated.",
    )
    region: RegionConfig | None = Field(
        default=None,
        description="Restore only this part of each image: {i: [0, 512], j: [0, 512]}, or {bounds: [left, bottom, "
        "right, top]} of a raster.",
    )
    nodata: Nodata = Field(
        default="auto",
        description="'auto': as the file says; 'none'; or the value that means nothing observed, as NaN always does.",
    )
    fill_nodata: Literal["drawn", "never", "inside", "all"] = Field(
        default="drawn",
        description="Restore nodata where a mask file draws a hole, never, inside any mask's holes, or everywhere.",
    )
    fill_doubted: bool = Field(
        default=False,
        description="Restore observed pixels that look like thin cloud or shadow, too; else they stay as they are.",
    )
    references: References = Field(default=(), description="Other dates or time points of the same place.")
    series: bool = Field(
        default=False,
        description="The images of source are dates of one place: each is restored with the others as references.",
    )
    series_references: int = Field(
        default=4, ge=1, le=64, description="With series: how many dates help each one, nearest in time first."
    )
    auxiliary: References = Field(
        default=(), description="Co-registered guides of another kind, without clouds: SAR, another MR contrast."
    )


class ModelConfig(Section):
    """What fills the holes."""

    kind: Annotated[str, BeforeValidator(known_kind("models", "fills"))] = Field(
        default="autoencoder", description="Method: a network, or a classical fill, which needs no weights."
    )
    weights: NamedText = Field(default="auto", description="'auto', the name of shipped weights, or a path.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the model or fill, such as {t: 0.5} of tension. The network has two: "
        "test_time_augmentation (true), the mean over mirrored views where it pays; false takes half of its time. "
        "precision (auto): float32, or bfloat16, which takes half of the time on processors that compute in it; auto "
        "is that where estimates move by less than a stored step.",
    )

    @model_validator(mode="after")
    def _fill_options_exist(self) -> ModelConfig:
        if self.options and self.kind in kinds("fills"):
            check_options(self.kind, self.options)
        return self


class PatchConfig(Section):
    """The lattice of patches the network sees."""

    size: PatchSizes = Field(default="auto", description="Patch extent in pixels: one number, or one an axis.")
    overlap: PatchOverlaps = Field(default="auto", description="Patch minus stride in pixels; at most half the size.")

    @model_validator(mode="after")
    def _overlap_fits(self) -> PatchConfig:
        if self.size == "auto" or self.overlap == "auto":
            return self
        longest = max(len(self.size), len(self.overlap))
        sizes, overlaps = (v * longest if len(v) == 1 else v for v in (self.size, self.overlap))
        if len(sizes) != len(overlaps):
            raise ValueError(f"size {list(self.size)} and overlap {list(self.overlap)} differ in length")
        for size, overlap in zip(sizes, overlaps, strict=True):
            if overlap > size // 2:
                raise ValueError(f"overlap {overlap} must be at most half the patch size {size}")
        return self


class OutputConfig(Section):
    """What is written, and when it is refused."""

    directory: ResultsFolder = Field(
        default=Path("out"), description="Folder of the result files, or s3://bucket/name (needs compute.scratch)."
    )
    format: Annotated[
        tuple[Literal["same", "zarr"], ...], BeforeValidator(listed), AfterValidator(no_doubles), OrAlone()
    ] = Field(default=("same",), min_length=1, description="'same' as the input, 'zarr', or both.")
    cube: bool = Field(
        default=False,
        description="With input.series: also put all dates into one zarr with a time axis, cube.zarr in the directory.",
    )
    bids: NamedFolder | None = Field(
        default=None,
        description="A BIDS data set of derivatives that gets the results, too; made if there is none. Inputs must be "
        "images of a BIDS data set.",
    )
    paths: Literal["relative", "absolute"] = Field(
        default="relative",
        description="Paths in record, report and run.json: relative (names of folders may be private), or absolute.",
    )
    display: bool = Field(
        default=False,
        description="Also write an image for looking at, not for measuring (_display): with the texture that the "
        "restored one lacks in large holes, drawn from what is around them.",
    )
    refuse_above: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Leave a hole pixel unrestored if its uncertainty is above this share of the value range.",
    )


class RunConfig(Section):
    """The whole config of a run."""

    input: InputConfig
    mask: Annotated[Masks | None, OrAuto()] = Field(
        default=None,
        description="Holes: the union of the entries; default: the catalog's or the scene's; auto: also a file beside "
        "the image that is named as its mask.",
    )
    model: ModelConfig | None = Field(
        default=None,
        description="Method (fill or network) for the holes; left out: the right shipped weights are found.",
    )
    patch: PatchConfig = PatchConfig()
    compute: ComputeConfig = ComputeConfig()
    output: OutputConfig = OutputConfig()
    seed: Seed = Field(
        default=0, description="Seed of everything that is drawn: with another one the self-test hides other pixels."
    )

    _path: Path | None = PrivateAttr(default=None)
    _document: yaml_files.Document | None = PrivateAttr(default=None)

    @property
    def path(self) -> Path | None:
        """The file it was read from; relative paths in it are relative to its folder."""
        return self._path

    @property
    def address(self) -> str:
        """`output.directory` if it lies in object storage, else empty."""
        return self.output.directory if isinstance(self.output.directory, str) else ""

    @property
    def folder(self) -> Path:
        """Where results are made on this machine: `output.directory`, or below `compute.scratch` for an address."""
        if isinstance(self.output.directory, Path):
            return self.output.directory
        place = Address.of(self.output.directory, "output.directory")
        return (self.compute.scratch or Path()) / "s3" / place.bucket / place.key

    def where(self, dotted: str) -> str:
        """Return where a key stands, for messages: `scene.yaml:4: input.bands`, or the key alone."""
        loc = tuple(int(part) if part.isdigit() else part for part in dotted.split("."))
        return f"{self._document.origin(loc)}: {dotted}" if self._document else dotted

    @model_validator(mode="before")
    @classmethod
    def _empty_section_is_default(cls, data: object) -> object:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read and check a config.

    `output.directory` (unless it lies in object storage), `compute.scratch` and a path in `model.weights` come back
    absolute. Paths in the file are relative to it; paths in `--set` are relative to the working folder, as on any
    command line.

    Args:
        path: YAML 1.2 file.
        overrides: `a.b=VALUE` from the command line, VALUE in YAML; later ones win.

    Raises:
        ConfigError: names the file, the line, the dotted path, what is wrong and what to do.
    """
    path = Path(path)
    document = yaml_files.with_overrides(yaml_files.read_yaml(path), overrides)
    config = _checked(document, from_working_folder(document))
    config = _with_absolute_paths(config, document, path.resolve().parent)
    config._path, config._document = path.resolve(), document
    return config


def overridden(values: dict[str, Any], overrides: Sequence[str], path: Path) -> dict[str, Any]:
    """Return the values of a config that is yet to be written, with overrides put in as `load_config` does.

    Args:
        values: content of the config.
        overrides: `a.b=VALUE` from the command line.
        path: where it will stand, for messages.

    Raises:
        ConfigError: as `load_config`.
    """
    document = yaml_files.with_overrides(yaml_files.Document(path=path, data=values, origins={}), overrides)
    data: dict[str, Any] = from_working_folder(document)
    _checked(document, data)
    return data


def _checked(document: yaml_files.Document, data: dict[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(yaml_files.explain(error, document, known_keys(data))) from None


def resolved(config: RunConfig) -> dict[str, Any]:
    """Return the config with every default filled in, as JSON values, for the record and `config show`."""
    return config.model_dump(mode="json")


def config_hash(config: RunConfig) -> str:
    """Return the sha256 (hex) of everything that can change a restored value.

    Executor, workers, memory, output folder and format are left out: they must not change the result.
    """
    values = resolved(config)
    parts = {key: values[key] for key in ("input", "mask", "model", "patch", "seed")}
    if config.model is not None:
        parts["model"]["weights"] = Path(config.model.weights).name
    parts["refuse_above"] = values["output"]["refuse_above"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of the config, with every kind the registry knows."""
    schema = RunConfig.model_json_schema()
    defs: dict[str, Any] = schema["$defs"]
    options = {kind: load("masks", kind).Options.model_json_schema() for kind in kinds("masks")}
    for kind, option in options.items():
        defs.update(option.pop("$defs", {}))
        defs[f"mask_{kind}"] = option
        option["required"] = sorted({"kind", *option.get("required", ())})
    defs["MaskOptions"] = {"oneOf": [{"$ref": f"#/$defs/mask_{kind}"} for kind in options]}
    defs["ModelConfig"]["properties"]["kind"]["enum"] = sorted({*kinds("models"), *kinds("fills")})
    defs["ComputeConfig"]["properties"]["executor"]["enum"] = ["auto", *kinds("execute")]
    reference = defs["ReferenceConfig"]
    reference["properties"]["path"] = {**reference["properties"]["source"], "description": "Same as source."}
    reference["required"] = []
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def known_keys(data: object) -> dict[yaml_files.Loc, Iterable[str]]:
    """Return the keys allowed at every path of `data` that holds a mapping, for suggestions."""
    keys: dict[yaml_files.Loc, Iterable[str]] = {(): RunConfig.model_fields}
    if not isinstance(data, dict):
        return keys
    for name, section in _SECTIONS.items():
        keys[(name,)] = section.model_fields
    keys[("input", "region")] = RegionConfig.model_fields
    keys[("compute", "slurm")] = JobsConfig.model_fields
    keys[("compute", "jobqueue")] = OtherJobsConfig.model_fields
    keys |= mask_keys(("mask",), data.get("mask"))
    given = data.get("input")
    for name in ("references", "auxiliary"):
        for index, reference in enumerate(_items(given.get(name) if isinstance(given, dict) else None)):
            loc = ("input", name, index)
            keys[loc] = (*ReferenceConfig.model_fields, "path")
            keys |= mask_keys((*loc, "mask"), reference.get("mask"))
    return keys


_SECTIONS: dict[str, type[Section]] = {
    "input": InputConfig,
    "model": ModelConfig,
    "patch": PatchConfig,
    "compute": ComputeConfig,
    "output": OutputConfig,
}


def mask_keys(loc: yaml_files.Loc, entries: object) -> dict[yaml_files.Loc, Iterable[str]]:
    """Return the keys allowed in every entry of the mask list at `loc`."""
    known = kinds("masks")
    return {
        (*loc, index): load("masks", entry["kind"]).Options.model_fields
        for index, entry in enumerate(_items(entries))
        if entry.get("kind") in known
    }


def _items(value: object) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else [value]
    return [item if isinstance(item, dict) else {} for item in items]


def _with_absolute_paths(config: RunConfig, document: yaml_files.Document, base: Path) -> RunConfig:
    def absolute(value: Path | str, key: str) -> Path:
        where = f"{document.origin(tuple(key.split('.')))}: {key}"
        try:
            return (base / yaml_files.expand_environment(str(value), where)).resolve()
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"{where}: {value} cannot be followed ({error}); choose another") from None

    _require_series_of_cube(config, document)
    _require_scheduler(config, document)
    folders: dict[str, Path | str] = {
        "directory": _results_place(config, document) or absolute(config.output.directory, "output.directory")
    }
    if config.output.bids is not None:
        folders["bids"] = absolute(config.output.bids, "output.bids")
    update: dict[str, Any] = {"output": config.output.model_copy(update=folders)}
    if config.compute.scratch is not None:
        scratch = absolute(config.compute.scratch, "compute.scratch")
        update["compute"] = config.compute.model_copy(update={"scratch": scratch})
    if config.model is not None and Path(config.model.weights).suffix == ".safetensors":
        weights = str(absolute(config.model.weights, "model.weights"))
        update["model"] = config.model.model_copy(update={"weights": weights})
    return config.model_copy(update=update)


def _require_series_of_cube(config: RunConfig, document: yaml_files.Document) -> None:
    where = f"{document.origin(('output', 'cube'))}: output.cube"
    if config.output.cube and not config.input.series:
        raise ConfigError(f"{where}: a cube is made of the dates of a series; set input.series: true, too")


def _require_scheduler(config: RunConfig, document: yaml_files.Document) -> None:
    compute, where = config.compute, f"{document.origin(('compute', 'executor'))}: compute.executor"
    if compute.executor == "cluster" and not compute.scheduler:
        raise ConfigError(f"{where}: cluster needs compute.scheduler, the scheduler's address or its scheduler file")
    if compute.executor == "jobqueue" and compute.jobqueue is None:
        raise ConfigError(f"{where}: jobqueue needs compute.jobqueue with the `kind` of the batch system, e.g. pbs")


def _results_place(config: RunConfig, document: yaml_files.Document) -> str:
    """Return `output.directory` as it is meant if it lies in object storage, else an empty text."""
    if not config.address:
        return ""
    where = f"{document.origin(('output', 'directory'))}: output.directory"
    address = Address.of(yaml_files.expand_environment(config.address, where), where)
    if config.output.bids is not None:
        raise ConfigError(f"{where}: a data set of derivatives (output.bids) needs results in a folder of this machine")
    if config.compute.scratch is None:
        raise ConfigError(
            f"{where}: results for {address} are made in a folder of this machine first, and sent when they are "
            "complete; name it with compute.scratch"
        )
    return str(address)
