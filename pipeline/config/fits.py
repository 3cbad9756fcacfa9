"""What a config asks for that only the opened image can deny, checked before anything is computed."""

from __future__ import annotations

import numpy as np

from pipeline.config.schema import RunConfig
from pipeline.errors import ConfigError
from pipeline.fills.base import FillSpec, Window
from pipeline.formats._image import representable
from pipeline.formats.base import Source
from pipeline.registry import kinds, load

_EDGE = 4
"""Of the window that a fill is tried on, in pixels."""


def check_fits(config: RunConfig, source: Source) -> None:
    """Check that axes, nodata, output formats and the fill of a config suit an image; reads no pixel.

    Raises:
        ConfigError: they do not, or no pixel can have the nodata value; names key, value and image.
    """
    ndim, name = source.space.ndim, source.paths[0]
    lengths = {
        "patch.size": config.patch.size,
        "patch.overlap": config.patch.overlap,
        "compute.block": config.compute.block,
    }
    for key, value in lengths.items():
        if value != "auto" and len(value) not in (1, ndim):
            raise ConfigError(
                f"{config.where(key)}: {list(value)} has {len(value)} numbers, but {name} has {ndim} axes; give one "
                "number, or one an axis"
            )
    nodata = config.input.nodata
    if isinstance(nodata, int | float):
        require_possible_nodata(nodata, source, config.where("input.nodata"))
    if source.kind == "zarr" and {"same", "zarr"} <= set(config.output.format):
        raise ConfigError(
            f"{config.where('output.format')}: {name} is zarr, so 'same' and 'zarr' are one file; keep one of them"
        )
    if config.model is not None and config.model.kind in kinds("fills") and config.model.kind not in kinds("models"):
        _check_fill(config, FillSpec(config.model.kind, config.model.options), ndim, name)


def require_possible_nodata(nodata: float, source: Source, where: str) -> None:
    """Check that a pixel of an image can have a value; no pixel of whole numbers is NaN or infinite.

    Raises:
        ConfigError: none can; `where` says what asked for it.
    """
    if representable(nodata, source.dtype) is None:
        raise ConfigError(
            f"{where}: no pixel of {source.paths[0]} can be {nodata:.17g}, as its pixels are {source.dtype}; write the "
            "value that they have where nothing was observed, or `none`"
        )


def _check_fill(config: RunConfig, spec: FillSpec, ndim: int, name: str) -> None:
    dimensions = load("fills", spec.kind).NDIM
    if ndim not in dimensions:
        suited = ", ".join(kind for kind in kinds("fills") if ndim in load("fills", kind).NDIM)
        raise ConfigError(
            f"{config.where('model.kind')}: '{spec.kind}' does not fill images of {ndim} axes such as {name}; choose "
            f"of {suited}"
        )
    if not spec.options:
        return
    shape = (1, *(_EDGE,) * ndim)
    hole = np.zeros(shape, dtype=np.bool_)
    hole[(0, *(1,) * ndim)] = True
    window = Window(values=np.zeros(shape, dtype=np.float32), valid=~hole, hole=hole, spacing=(1.0,) * ndim)
    try:
        spec(window)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{config.where('model.options')}: {dict(spec.options)} do not suit {name}: {error}"
        ) from None
