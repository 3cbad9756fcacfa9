"""Clouds and their shadows where there is no mask: OmniCloudMask finds them in the red, green and near-infrared bands.

OmniCloudMask (Wright et al. 2025, Remote Sensing of Environment; MIT) is the extra `clouds`. Its weights are a download
of their own, which a run never makes: they lie where OmniCloudMask keeps them, or in the folder that `weights` names.

The network sees the image in windows at fixed places, so a pixel never depends on the window it is read in.

Also known as: cloud, clouds, cloud mask.
"""

from __future__ import annotations

import os
import threading
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import ConfigError, SourceError
from pipeline.formats._files import untrusted
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.masks.base import MaskOptions, Resolve, channel_index, states_from

CloudClass = Literal["thick_cloud", "thin_cloud", "cloud_shadow"]
_CODES: dict[CloudClass, int] = {"thick_cloud": 1, "thin_cloud": 2, "cloud_shadow": 3}
_TILE, _CONTEXT = 512, 244
"""Pixels that one look decides, and those around them that it sees: 1000 together, for which the network was made."""
_PIXEL_M = (5.0, 50.0)
_SMALLEST_WEIGHTS = 2**20
_ONE_AT_A_TIME = threading.Lock()


class Options(MaskOptions):
    """Which bands the network sees, and which of its classes are holes."""

    kind: Literal["omnicloudmask"] = "omnicloudmask"
    red: int | str = Field(description="Red band, by number from 1 or name.")
    green: int | str = Field(description="Green band.")
    nir: int | str = Field(description="Near-infrared band.")
    classes: tuple[CloudClass, ...] = Field(
        default=("thick_cloud", "thin_cloud", "cloud_shadow"), min_length=1, description="Classes to restore."
    )
    weights: str | None = Field(
        default=None, description="Folder with the network's weights; default: where OmniCloudMask keeps them."
    )
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where the network runs.")

    def resolved(self, resolve: Resolve) -> Options:
        """Return these options with an absolute folder."""
        if self.weights is None:
            return self
        # what resolves paths is there for files
        return self.model_copy(update={"weights": str(Path(resolve(f"{self.weights}/weights")).parent)})

    def reads(self) -> tuple[str, ...]:
        """Return the files of weights in the folder that is named."""
        return () if self.weights is None else _weights_in(Path(self.weights))


@dataclass(frozen=True, kw_only=True, eq=False)
class CloudMask:
    """FILL where the network sees one of the wanted classes, KEEP elsewhere; one look a tile and process."""

    source: Source
    channels: tuple[int, int, int]
    """Red, green and near-infrared, from 0."""
    wanted: tuple[int, ...]
    weights: str | None
    device: str
    notices: tuple[str, ...] = field(default=())

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return FILL/KEEP, shape `(1, *box.shape)`."""
        hole = np.zeros((1, *box.shape), dtype=bool)
        whole = Box.whole(self.source.space.shape)
        for index in np.ndindex(*(-(-n // _TILE) for n in whole.shape)):
            tile = Box.whole((_TILE, _TILE)).shift(tuple(i * _TILE for i in index)) & whole
            part = tile & box
            if not part.empty:
                with _ONE_AT_A_TIME:
                    seen = _classes(self, tile)
                hole[part.at(of=box)] = np.isin(seen[part.within(tile)], self.wanted)
        return states_from(hole)


def open_mask(options: Options, source: Source, resolve: Resolve) -> CloudMask:
    """Find the bands and the weights; looks at nothing.

    Raises:
        ConfigError: the extra is not installed, the image has no such band, or the folder holds no weights.
        SourceError: the image is a volume.
    """
    name = source.paths[0]
    if find_spec("omnicloudmask") is None:
        raise ConfigError(
            f"{name}: `kind: omnicloudmask` needs an extra: pip install 'inpaint-pipeline[clouds]'; its weights are a "
            "download of its own, made once before the run"
        )
    if source.space.kind != "raster":
        raise SourceError(f"{name}: is a volume, which has no clouds; choose another kind of mask")
    options = options.resolved(resolve)
    weights = options.weights
    if weights is not None and not options.reads():
        raise ConfigError(
            f"{weights}: holds no weights of OmniCloudMask (*.safetensors, *.pth); a run does not download them, so "
            "copy them there"
        )
    bands = (options.red, options.green, options.nir)
    red, green, nir = (channel_index(band, source) for band in bands)
    return CloudMask(
        source=source,
        channels=(red, green, nir),
        wanted=tuple(_CODES[name] for name in options.classes),
        weights=weights,
        device=options.device,
        notices=_pixel_notices(source),
    )


def _weights_in(folder: Path) -> tuple[str, ...]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    weights = [f for f in files if f.suffix in (".safetensors", ".pth") and f.is_file()]
    return tuple(str(f) for f in weights if f.stat().st_size > _SMALLEST_WEIGHTS)


def _pixel_notices(source: Source) -> tuple[str, ...]:
    least, most = _PIXEL_M
    step = max(source.space.spacing)
    if source.space.units != "m" or least <= step <= most:
        return ()
    return (f"{source.paths[0]}: has pixels of {step:g} m; OmniCloudMask was made for {least:g} to {most:g} m",)


@lru_cache(maxsize=64)
def _classes(mask: CloudMask, tile: Box) -> NDArray[np.uint8]:
    """Return the class of each pixel of a tile, uint8 `tile.shape`; 0 is clear.

    Raises:
        SourceError: the network cannot look at the image, or its weights are not there.
    """
    # before the first import of the hub's client, which reads it then
    os.environ["HF_HUB_OFFLINE"] = "1"
    source, name = mask.source, mask.source.paths[0]
    outer = tile.grow(_CONTEXT) & Box.whole(source.space.shape)
    never = np.broadcast_to(source.never(outer), (source.n_channels, *outer.shape))
    layers = [np.where(never[c], 0, source.read(outer, slice(c, c + 1))[0]) for c in mask.channels]
    seen = np.nan_to_num(np.stack(layers).astype(np.float32))
    remedy = "name the folder with its weights as `weights`: a run does not download them"
    with untrusted(name, "OmniCloudMask cannot look for clouds", remedy), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from omnicloudmask import predict_from_array

        options: dict[str, Any] = {"inference_device": mask.device, "destination_model_dir": mask.weights}
        found = predict_from_array(seen, no_data_value=0, **options)
    classes: NDArray[np.uint8] = np.asarray(found)[0].astype(np.uint8)[tile.within(outer)]
    return classes
