"""The image that config and catalog name, opened: its files, or the bands of a delivered scene."""

from __future__ import annotations

from pipeline.config.batch import SourceSpec
from pipeline.config.schema import RunConfig
from pipeline.errors import ConfigError
from pipeline.formats import open_any
from pipeline.formats._repeat import repeated
from pipeline.formats._view import cropped
from pipeline.formats.base import Source


def opened(spec: SourceSpec, config: RunConfig | None = None, role: str = "") -> Source:
    """Open the image of a spec; `role` is empty for the one to restore: of that, the part that `config` names.

    Raises:
        ConfigError: it has no such band or part; names the key, and its line in `config`.
    """
    source = _opened(spec, config, role)
    region = config.input.region if config is not None and not role else None
    if config is None or region is None:
        return source
    try:
        return cropped(source, region.box(source))
    except ConfigError as error:
        source.close()
        raise ConfigError(f"{config.where('input.region')}: {error}") from None


def _opened(spec: SourceSpec, config: RunConfig | None, role: str) -> Source:
    try:
        if spec.repeats:
            return repeated([open_any(path, kind=spec.kind, nodata=spec.nodata) for path in spec.paths])
        return open_any(spec.paths, kind=spec.kind, bands=spec.bands, nodata=spec.nodata)
    except ConfigError as error:
        raise ConfigError(f"{_key_of_bands(spec, config, role)}: {error}") from None


def _key_of_bands(spec: SourceSpec, config: RunConfig | None, role: str) -> str:
    """Return where the bands of a spec were asked for."""
    key = {"reference": "references", "auxiliary": "auxiliary"}.get(role, "")
    if config is not None and not key and config.input.bands:
        return config.where("input.bands")
    given = getattr(config.input, key) if config is not None and key else ()
    for number, one in enumerate(given):
        if one.bands == spec.bands:
            return config.where(f"input.{key}.{number}.bands") if config else ""
    return f"catalog entry '{spec.name}': bands"
