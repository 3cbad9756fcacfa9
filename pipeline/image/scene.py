"""One image of a run, opened and measured: what the survey and the self-test look at."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import zarr

from pipeline.errors import ConfigError, PlanRefused
from pipeline.fills.base import Window
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.image.background import background_of
from pipeline.image.classes import class_notices
from pipeline.image.lost import slice_notices
from pipeline.image.notices import asks_for_nodata, guide_notices, state_notices, value_notices
from pipeline.image.open import OpenGuide, open_guide, open_source
from pipeline.image.scan import StateScan, ValueScan, block_sum, no_values, scan_states, scan_values
from pipeline.image.window import OpenImage
from pipeline.masks.base import ComposedMask, Mask
from pipeline.plan.job import Job
from pipeline.restore.task import Guide
from pipeline.system.signals import stop_if_asked
from pipeline.system.words import together

_LITTLE = 0.2
"""Share of pixels that are evidence in these, doubted ones and holes."""

_PATCH = {2: (512, 256, 32), 3: (96, 96, 16)}
"""By dimensions: extent up to which one patch covers an axis; extent and overlap of patches of longer ones, pixels."""

_SOLID = 9
"""Edge of a square or cube without any observed pixel that only clouds and the like leave, pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The opened image of a job with everything measured so far."""

    job: Job
    image: OpenImage
    states: StateScan
    values: ValueScan
    lattice: Lattice
    clear: bool = False
    """What little is left of an image that is nearly all hidden is known not to be contaminated."""

    @property
    def source(self) -> Source:
        """The image's file."""
        return self.image.source

    @property
    def ndim(self) -> int:
        """Spatial dimensions."""
        return self.source.space.ndim

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape."""
        return self.source.space.shape

    @property
    def guides(self) -> tuple[OpenGuide, ...]:
        """References, then auxiliaries."""
        return self.image.guides

    @property
    def spacing(self) -> tuple[float, ...]:
        """Step per axis for fills and distances (1 for rasters, mm for volumes)."""
        return self.image.spacing

    @property
    def has_siblings(self) -> bool:
        """Return True if channels have different holes, so that they can tell about one another."""
        return self.states.n_state > 1

    @property
    def little_trusted(self) -> bool:
        """Return True if so little is trusted that what can be hidden lies in gaps between clouds.

        Scattered holes with observed pixels all between them are no clouds, however many they are.
        """
        states = self.states
        if states.kept >= _LITTLE * (states.kept + states.doubted + states.holes):
            return False
        size = max(1, math.ceil(_SOLID / states.cell))
        holes, kept = block_sum(states.hole_cells, size), block_sum(states.kept_cells, size)
        return bool(holes[kept == 0].sum() >= 0.5 * states.holes)

    @property
    def n_guides(self) -> int:
        """Return the number of guides of a window: one a file, and one for the image's own channels."""
        return len(self.image.guides) + self.has_siblings

    def window(self, box: Box) -> tuple[Window, tuple[Guide, ...]]:
        """Read a window as a block would see it, and what the guides show there; hole values are 0."""
        stop_if_asked()
        return self.image.read(box).window(box)


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last call under `name`, beside what stands there."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def open_scene(job: Job, clock: Clock) -> tuple[Scene, list[str]]:
    """Open and measure the image of a job; without a hole only its states. Also returns notices for the user.

    Raises:
        SourceError: the image, a mask or a guide cannot be used.
        ConfigError: patch sizes or guides do not fit the image.
        PlanRefused: nothing is observed.
    """
    source = open_source(job.source)
    if job.source.staged:
        clock.lap("stage")
    space = source.space
    lattice = lattice_of(job, space.shape)
    mask, channels, states, state, said = _measured_states(job, source)
    notices = state_notices(source, mask, states, (*job.notices, *said)) + slice_notices(source, state, channels)
    clock.lap("masks")
    if states.holes == 0:
        # nothing of what the holes would need is opened, asked for or refused
        job = replace(job, guides=(), block=lattice.patch, refuse_above=None)
        values = no_values(len(channels))
        if not states.never and states.kept and asks_for_nodata(mask):
            notices += value_notices(source, channels, scan_values(source, state, channels))
    elif states.kept == 0:
        raise PlanRefused(
            f"{source.paths[0]}: the masks cover everything that is not nodata ({states.holes} pixels); nothing "
            "observed is left to restore from. Check the mask's classes, `invert` and `buffer`"
            + "".join(f"\n{note}" for note in notices)
        )
    else:
        values = scan_values(source, state, channels)
        notices += value_notices(source, channels, values)
    if job.model.traits.absolute:
        values = replace(values, centre=(0.0,) * len(channels))
    guides = tuple(open_guide(guide, source) for guide in job.guides)
    notices += together(guide_notices(job, source, guides))
    image = OpenImage(
        source=source,
        state=state,
        guides=guides,
        channels=channels,
        centre=values.centre,
        spacing=space.spacing if space.kind == "volume" else (1.0,) * space.ndim,
    )
    notices += class_notices(image, states, job) if states.holes else ()
    clock.lap("statistics")
    return Scene(job=job, image=image, states=states, values=values, lattice=lattice), notices


def _measured_states(job: Job, source: Source) -> tuple[Mask, tuple[int, ...], StateScan, zarr.Array, tuple[str, ...]]:
    """Return the mask, the channels with any value, the states of their pixels, and what was found of a background."""
    mask = job.open_mask(source)
    channels, states, state = _without_empty(source, mask, restorable(source), job.work.state)
    background = background_of(source, states, state) if job.source.nodata is None else None
    if background is None:
        return mask, channels, states, state, ()
    if background.known and isinstance(mask, ComposedMask):
        mask = replace(mask, background=background.values)
        channels, states, state = _without_empty(source, mask, restorable(source), job.work.state)
    return mask, channels, states, state, (background.sentence(source.paths[0]),)


def _without_empty(
    source: Source, mask: Mask, channels: tuple[int, ...], path: Path
) -> tuple[tuple[int, ...], StateScan, zarr.Array]:
    """Return the channels that have any value, and the states of their pixels; those without are counted, too."""
    states, state = scan_states(source, mask, channels, path)
    if not states.empty:
        return channels, states, state
    left = tuple(c for c in channels if c not in states.empty)
    again, state = scan_states(source, mask, left, path)
    return left, replace(again, empty=states.empty, marked_empty=states.marked_empty), state


def restorable(source: Source) -> tuple[int, ...]:
    """Return the channels that can be restored: all but alpha.

    Raises:
        ConfigError: there is none.
    """
    channels = tuple(c for c in range(source.n_channels) if c not in source.fixed_channels)
    if not channels:
        raise ConfigError(f"{source.paths[0]}: no band to restore, only alpha")
    return channels


def lattice_of(job: Job, shape: tuple[int, ...]) -> Lattice:
    """Return the patch lattice of an image: one patch, or several if it is large, unless the job says otherwise.

    Raises:
        ConfigError: sizes do not fit the number of axes, or the overlap is above half the patch.
    """
    ndim = len(shape)
    alone, several, meet = _PATCH[ndim]
    patch = job.patch or tuple(n if n <= alone else several for n in shape)
    auto = (p // 4 for p in patch) if job.patch else (0 if n <= alone else meet for n in shape)
    overlap = job.overlap or tuple(auto)
    if len(patch) != ndim or len(overlap) != ndim:
        raise ConfigError(
            f"patch size {patch} and overlap {overlap} must have {ndim} numbers for an image of shape {shape}"
        )
    try:
        return Lattice(shape=shape, patch=patch, overlap=overlap)
    except ValueError as error:
        raise ConfigError(f"patch: {error}") from error
