"""The catalog file: its schema, where it is looked for, and data that are made on first use."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from pipeline import __version__
from pipeline.config.fields import Bands, DateText, Masks, Nodata, Section, Seed, SourceText, known_kind
from pipeline.config.names import plain_name
from pipeline.config.schema import References, mask_keys
from pipeline.errors import ConfigError, OutputConflict
from pipeline.system import yaml_files
from pipeline.system.files import remove_made
from pipeline.system.paths import kind_of, state_of

FILE_NAME = "data_catalog.yaml"


class GeneratorConfig(Section):
    """Data made on first use: `kind` names a function `write_<kind>` of the synthetic demos."""

    kind: str = Field(description="'demo_sentinel' or 'demo_brain'.")
    seed: Seed = Field(default=0, description="Same seed, same bytes.")


class EntryConfig(Section):
    """One named data set; words follow STAC common metadata where it has one."""

    title: str = Field(default="", description="One line for lists.")
    description: str = Field(default="", description="What it shows, what is known about it.")
    license: str = Field(description="SPDX identifier or short text.")
    url: str = Field(default="", description="Where the data come from.")
    path: SourceText = Field(description="As `input.source`; relative to this file, or to what was generated.")
    kind: Annotated[str, BeforeValidator(known_kind("formats"))] | None = Field(
        default=None, description="Format; default: found from the file."
    )
    bands: Bands | None = Field(default=None, description="Bands to use, by number from 1 or name.")
    nodata: Nodata = Field(default="auto", description="Value that means nothing was observed.")
    mask: Masks = Field(default=(), description="What is hidden, unless the config says otherwise.")
    references: References = ()
    auxiliary: References = ()
    date: DateText | None = Field(default=None, description="Acquisition date.")
    gsd: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Ground sampling distance in metres."
    )
    providers: tuple[str, ...] = ()
    sha256: dict[str, str] = Field(default_factory=dict, description="File name to hash; checked before use.")
    generator: GeneratorConfig | None = None

    @field_validator("sha256")
    @classmethod
    def _are_hashes(cls, hashes: dict[str, str]) -> dict[str, str]:
        for name, value in hashes.items():
            if len(value) != 64 or set(value.lower()) - set("0123456789abcdef"):
                raise ValueError(f"sha256 of '{name}' must be 64 hexadecimal digits, found '{value}'")
        return hashes


class CatalogConfig(Section):
    """A whole catalog file."""

    catalog_version: Literal[1]
    sources: dict[str, EntryConfig]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A named data set and the catalog it stands in.

    Attributes:
        name: as used in `input.source`.
        config: what the catalog says.
        catalog: the file.
    """

    name: str
    config: EntryConfig
    catalog: Path

    @property
    def remote(self) -> bool:
        """True if reading it needs the network."""
        return "://" in json.dumps(self.config.path)


def list_entries(start: Path | str | None = None) -> dict[str, Entry]:
    """Return all named data sets seen from the folder `start` (default: working folder), nearest first.

    Raises:
        ConfigError: a catalog is wrong; names file, line and path.
    """
    entries: dict[str, Entry] = {}
    for path in _catalog_files(Path(start) if start else Path.cwd()):
        for name, config in _read_catalog(path, state_of(path)).sources.items():
            entries.setdefault(name, Entry(name=name, config=config, catalog=path))
    return entries


def generated(entry: Entry) -> Path:
    """Return the folder with the entry's generated files, made once; a crash leaves nothing half-made.

    Raises:
        ConfigError: no such generator, or something else is where the files would go.
        OutputConflict: they cannot be written.
    """
    from pipeline.synthetic import demo

    generator = entry.config.generator
    kind = generator.kind if generator else ""
    write = getattr(demo, f"write_{kind}", None)
    if generator is None or write is None:
        known = [name.removeprefix("write_") for name in dir(demo) if name.startswith("write_")]
        hint = yaml_files.nearest(kind, known)
        raise ConfigError(f"catalog entry '{entry.name}': no generator '{kind}'{hint} (known: {', '.join(known)})")
    name = plain_name(entry.name)
    folder = cache_root(entry.catalog.parent) / name
    made_by = json.dumps({"generator": generator.model_dump(), "version": __version__}, sort_keys=True)
    marker = folder / "generator.json"
    try:
        if marker.is_file() and marker.read_text(encoding="utf-8") == made_by:
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
    except (OSError, UnicodeDecodeError) as error:
        raise _unwritable(entry, folder, error) from error
    try:
        write(fresh, generator.seed)
        (fresh / marker.name).write_text(made_by, encoding="utf-8")
        if marker.is_file():
            remove_made(folder)
        elif folder.exists():
            raise ConfigError(
                f"catalog entry '{entry.name}': {folder} was not made by this program, so the generated files cannot "
                "go there; move it away, or set INPAINT_CACHE to another folder"
            )
        fresh.rename(folder)
    except OSError as error:
        if not marker.is_file():  # else another process was quicker, with the same bytes
            raise _unwritable(entry, folder, error) from error
    finally:
        remove_made(fresh)
    return folder


def _unwritable(entry: Entry, folder: Path, error: Exception) -> OutputConflict:
    return OutputConflict(
        f"catalog entry '{entry.name}': its files cannot be made in {folder} ({error}); set INPAINT_CACHE to a folder "
        "that can be written"
    )


def cache_root(catalog_folder: Path) -> Path:
    """Return the folder of generated data: `INPAINT_CACHE`, else beside the catalog, else the user's cache."""
    if os.environ.get("INPAINT_CACHE"):
        return Path(os.environ["INPAINT_CACHE"])
    if os.access(catalog_folder, os.W_OK):
        return catalog_folder / ".cache" / "data"
    return Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / "inpaint-pipeline"


def _catalog_files(start: Path) -> list[Path]:
    folder = start.resolve()
    near = [f / FILE_NAME for f in (folder, *folder.parents)]
    package = Path(__file__).parents[1]
    shipped = [package / FILE_NAME, package.parent / FILE_NAME]
    nearest_own = [path for path in near if kind_of(path) == "file"][:1]
    return list(dict.fromkeys(nearest_own + [path for path in shipped if kind_of(path) == "file"][:1]))


@lru_cache(maxsize=16)
def _read_catalog(path: Path, _state: tuple[int, ...]) -> CatalogConfig:
    document = yaml_files.read_yaml(path)
    try:
        return CatalogConfig.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError(yaml_files.explain(error, document, _catalog_keys(document.data))) from None


def _catalog_keys(data: dict[str, Any]) -> dict[yaml_files.Loc, Iterable[str]]:
    keys: dict[yaml_files.Loc, Iterable[str]] = {(): CatalogConfig.model_fields}
    sources = data.get("sources")
    for name, entry in sources.items() if isinstance(sources, dict) else ():
        keys[("sources", name)] = EntryConfig.model_fields
        if isinstance(entry, dict):
            keys[("sources", name, "generator")] = GeneratorConfig.model_fields
            keys |= mask_keys(("sources", name, "mask"), entry.get("mask"))
    return keys
