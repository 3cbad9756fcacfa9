"""One image of a run, opened and measured: what the survey and the self-test look at."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import zarr

from pipeline.errors import ConfigError, PlanRefused
from pipeline.fills.base import Window
from pipeline.formats.base import Source
from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.image.open import OpenGuide, centred, open_guide, open_source
from pipeline.image.scan import StateScan, ValueScan, scan_states, scan_values
from pipeline.masks.base import FILL, KEEP
from pipeline.plan.job import Job
from pipeline.plan.refs import GuideRef
from pipeline.restore.task import Guide, with_siblings


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The opened image of a job with everything measured so far."""

    job: Job
    source: Source
    guides: tuple[OpenGuide, ...]
    channels: tuple[int, ...]
    state: zarr.Array
    states: StateScan
    values: ValueScan
    lattice: Lattice
    spacing: tuple[float, ...]

    @property
    def has_siblings(self) -> bool:
        """Return True if channels have different holes, so that they can tell about one another."""
        return self.states.n_state > 1

    @property
    def n_guides(self) -> int:
        """Return the number of guides of a window: one a file, and one for the image's own channels."""
        return len(self.guides) + self.has_siblings

    def window(self, box: Box) -> tuple[Window, tuple[Guide, ...]]:
        """Read a window as a block would see it; hole values are 0."""
        state = np.asarray(self.state[(slice(None), *box.slices)])
        stored = self.source.read(box)[list(self.channels)]
        valid = np.broadcast_to(state == KEEP, stored.shape)
        window = Window(
            values=centred(stored, self.values.centre, valid),
            valid=valid,
            hole=np.broadcast_to(state == FILL, stored.shape),
            spacing=self.spacing,
            open_edges=tuple(
                (a > 0, b < n) for a, b, n in zip(box.start, box.stop, self.source.space.shape, strict=True)
            ),
        )
        return window, with_siblings(window, tuple(guide.read(box) for guide in self.guides), self.states.n_state)


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last call under `name`."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


def open_scene(job: Job, clock: Clock) -> tuple[Scene | None, list[str]]:
    """Open and measure the image of a job; None if the masks mark no hole. Also returns notices for the user.

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
    channels = restorable(source)
    mask = job.open_mask(source)
    states, state = scan_states(source, mask, channels, job.workdir)
    notices = list(mask.notices)
    if len(source.paths) > 1:
        notices.append(
            f"{len(source.paths)} files were taken as the bands of one image: {', '.join(source.channel_names)}"
        )
    clock.lap("masks")
    if states.holes == 0:
        return None, [*notices, _nothing_to_restore(states)]
    if states.kept == 0:
        raise PlanRefused(
            f"{source.paths[0]}: the masks cover everything that is not nodata ({states.holes} pixels); nothing "
            "observed is left to restore from. Check the mask's classes, `invert` and `buffer`"
        )
    values = scan_values(source, state, channels)
    if job.model_kind == "constant":
        # its number is in data units
        values = replace(values, centre=(0.0,) * len(channels))
    guides = tuple(_open_guide(guide, source) for guide in job.guides)
    spacing = space.spacing if space.kind == "volume" else (1.0,) * space.ndim
    clock.lap("statistics")
    scene = Scene(
        job=job,
        source=source,
        guides=guides,
        channels=channels,
        state=state,
        states=states,
        values=values,
        lattice=lattice,
        spacing=spacing,
    )
    return scene, notices


def _nothing_to_restore(states: StateScan) -> str:
    if not states.never:
        return "nothing to restore: the masks mark no pixel"
    return (
        f"nothing to restore: the masks mark no pixel that has a value, and {states.never} pixels without one (nodata) "
        "stay as they are; `input.fill_nodata: inside` restores those inside the masks"
    )


def restorable(source: Source) -> tuple[int, ...]:
    """Return the channels that can be restored: all but alpha.

    Raises:
        ConfigError: there is none.
    """
    channels = tuple(c for c in range(source.n_channels) if c not in source.fixed_channels)
    if not channels:
        raise ConfigError(f"{source.paths[0]}: no band to restore, only alpha")
    return channels


def _open_guide(guide: GuideRef, target: Source) -> OpenGuide:
    source = open_source(guide.source)
    difference = target.space.mismatch(source.space)
    if difference and not guide.source.resample:
        raise ConfigError(
            f"{guide.role} {source.paths[0]} lies on another grid than {target.paths[0]}: {difference}\n"
            f"  image:     {target.space.describe()}\n  {guide.role}: {source.space.describe()}\n"
            "Bring it onto the image's grid, or set `resample: true` on this entry"
        )
    return open_guide(guide, target.space)


def lattice_of(job: Job, shape: tuple[int, ...]) -> Lattice:
    """Return the patch lattice of an image; 256 px patches in 2-D and 64 in 3-D unless the job says otherwise.

    Raises:
        ConfigError: sizes do not fit the number of axes, or the overlap is above half the patch.
    """
    ndim = len(shape)
    patch = job.patch or ((256, 256) if ndim == 2 else (64, 64, 64))
    overlap = job.overlap or tuple(p // 4 for p in patch)
    if len(patch) != ndim or len(overlap) != ndim:
        raise ConfigError(
            f"patch size {patch} and overlap {overlap} must have {ndim} numbers for an image of shape {shape}"
        )
    try:
        return Lattice(shape=shape, patch=patch, overlap=overlap)
    except ValueError as error:
        raise ConfigError(f"patch: {error}") from error
