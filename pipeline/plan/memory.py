"""How much memory a plan needs, known before it runs; a plan that cannot fit is refused with the numbers."""

from __future__ import annotations

import math

import numpy as np

from pipeline.errors import PlanRefused
from pipeline.geometry.box import Box
from pipeline.plan.plan import Plan
from pipeline.references.joint import MOST_BANDS, Joint
from pipeline.references.siblings import Siblings
from pipeline.system.bounds import USABLE
from pipeline.system.units import told_bytes

_BASE_BYTES = 236 * 2**20
"""Python, GDAL with its cache, dask and zarr in one process (130 MiB before any pixel is read, 180 to 260 after)."""
_TORCH_BYTES = 300 * 2**20
"""What torch, MONAI and a network add to that (measured 280 to 310 MiB)."""
_PREPARED_BYTES, _PREPARED_MOST = 2**19, 350 * 2**20
"""Convolutions that are kept prepared (`system/process.py`), for each patch, until the most that are kept."""
_HELD_BYTES = 4 + 1
"""Read box, per pixel and channel beside the stored value: float32 value around the centre, and whether it is valid."""
_STATE_BYTES = 3
"""Read box, per pixel and plane of holes: its state, and whether that is a hole or observed."""
_GUIDE_BYTES = 8
"""Read box, per pixel, channel of the image and guide: value as stored, as float32, and whether it is valid."""
_CELL_BYTES = 4
"""Read box, per cell of the coarse fill and channel, and per cell of each thing that patches cannot see."""
_SUM_BYTES = 8 + 8 + 1
"""Write box, per hole pixel and channel: float64 sums of mean and error over the patches, uint8 code of the source."""
_STRONGEST_BYTES = 8
"""Write box, per hole pixel: float64 weight of the patch whose code counts."""
_NUMBER_BYTES = 4
"""Write box, per pixel: which of the hole pixels it is."""
_STORED_COPIES = 3
"""Write box, stored images of all channels of the file at once: as read, the estimates in that dtype, the result."""
_COMPOSITE_BYTES = 8 + 8 + 8
"""Write box, per hole pixel and channel: float64 error, estimate around the centre, and estimate in stored units."""
_ERROR_BYTES = 4
"""Write box, per pixel and channel: float32 standard error."""
_ORIGIN_BYTES = 4
"""Write box, per pixel and plane of holes: uint8 codes of the source layer and what they are chosen from."""
_WINDOW_BYTES = 110
"""Per patch pixel and channel: values, masks, distances, fill, local statistics and estimate of one window."""
_REFERENCE_BYTES, _REFERENCE_CHANNEL_BYTES, _REFERENCE_BAND_BYTES = 50, 70, 20
"""Per patch pixel while references are looked at, per channel that is estimated from them at once (predictions, errors
and their local means) and per band of theirs (at its place, sharp and blurred)."""
_SLAB_BYTES, _SLAB_BAND_BYTES = 10 * 2**20, 2**19
"""Features of the pixels that a relation predicts at a time, and for each band of the references."""
_ACTIVATION_BYTES = {2: 900, 3: 400}
"""Per patch pixel while the network runs, by dimensions: activations of one pass (measured up to 750 and 370)."""
_NETWORK_CHANNEL_BYTES = 40
"""Per patch pixel and channel: what the network sees and says, float32 planes."""
_UNKNOWN_BYTES = 1300
"""Peak of the spline solver per unknown (measured 1.2 kB)."""
_COARSE_BYTES = 28
"""Copies of the coarse values held while they are filled: sums, mean, valid, usable, the fill (measured 25 to 33)."""
_EXACT_BYTES, _EXACT_VALUE_BYTES = 36, 4 + 1 + 1
"""Where the coarse fill is the exact one, per pixel: distances, families (measured 34 to 40 with what is held a value);
per value: the value, and whether it is valid or a hole."""
MOST_UNKNOWNS, _FREE_UNKNOWNS = 250_000, 50_000
"""The most unknowns of the coarse fill, and as many as are counted wherever contaminated pixels are looked for."""
_CELLS_BYTES = 13
"""Per coarse value while it is found what patches cannot see: mean, variance, count, usable."""
_BEYOND_BYTES, _BEYOND_CHANNEL_BYTES, _BEYOND_CELLS = 90, 27, 500_000
"""Then also per cell, per cell and channel (measured 105 with one channel, 145 with four), and the most cells."""
_CORRECTION_CELLS = 40_000
"""Cells with a regression around each, which takes what it takes in a patch, if there are guides or siblings."""
_DOUBT_BYTES, _DOUBT_OWN_BYTES = 70, 40
"""Per pixel of the windows in which thin cloud is looked for, and per band of the image: what they hold, and how it
differs from the ground (measured 100 with one band, 220 with four, 540 to 580 with thirteen)."""
_DOUBT_DATED_BYTES, _DOUBT_BAND_BYTES = 70, 5
"""The same more where there are references, however many look one after the other, and per band of them (measured 75
with one of four bands, 100 to 120, 170 and 280 with one, two and four of thirteen)."""
_TEST_BYTES, _TEST_GUIDED_BYTES, _TEST_BARS_BYTES = {2: 430, 3: 640}, 200, 290
"""Per pixel and channel of a window of the self-test, all six and their trials together, by dimensions (measured 340 to
480, and 630 to 650), and what guides add, however many there are: the trials with them, and error bars of both
(measured 300 to 490)."""
_TEST_LEFT_BYTES = {2: 0, 3: 480}
"""Per pixel of such a window, what passes of the network leave with the process, by dimensions (in volumes measured up
to 900 with those of one pass)."""
_BEYOND_WINDOW_BYTES = 40
"""The same, as read for a window: per pixel and channel, once for the image and once for each relation, or sibling."""
ASSEMBLY_BYTES = 64 * 2**20
"""What the writer of a file may hold of it at once."""
_WRITING_BYTES = 48 * 2**20
"""What writing a file adds: pieces of it with the blocks laid over, as encoded, and the encoders' own (whole runs of
sparse images took 264 to 275 MiB in all)."""
_DISPLAY_BYTES = 128 * 2**20
"""Texture of the display product: a window of it, and what is kept for the next one."""
_DISPLAY_CHANNEL_BYTES = 2**20
"""The same per channel: a tile and its donor with their surroundings, in bands of scale."""
_BLOCK_SIZES = {2: (1024, 768, 512, 384, 256), 3: (192, 128, 96, 64)}


def process_bytes(
    plan: Plan, n_file_channels: int, *, doubt: int = 0, tested: int = 0, at_once: int = 1, display: bool = False
) -> int:
    """Return the peak memory of any process of a run, in bytes: of a worker, of the survey, or of the assembly.

    Args:
        plan: the plan.
        n_file_channels: channels of the image's file.
        doubt: what looking for thin cloud and shadow adds, bytes, see `doubt_bytes`.
        tested: pixels of a window of the self-test.
        at_once: windows of the self-test that the network sees at the same time, in as many threads.
        display: the display product is made, too.
    """
    pixels, channels, cell = math.prod(plan.space.shape), len(plan.channels), plan.guess_factor**plan.ndim
    unknowns = plan.n_holes * plan.n_state // channels
    if doubt:
        unknowns = min(most_unknowns(unknowns, pixels * plan.n_state), MOST_UNKNOWNS * cell)
    exact = pixels if cell == 1 else 0
    found = _survey_bytes(
        channels * pixels // cell, unknowns // cell, exact, channels, guided=bool(plan.guides) or plan.n_state > 1
    )
    survey = base_bytes(plan) + max(found, doubt, _test_bytes(plan, tested, at_once))
    assembly = base_bytes(plan) + _WRITING_BYTES
    if display:
        assembly += _DISPLAY_BYTES + _DISPLAY_CHANNEL_BYTES * channels
    return max(worker_bytes(plan, n_file_channels), survey, assembly)


def worker_bytes(plan: Plan, n_file_channels: int) -> int:
    """Return the peak memory one worker needs for one block, in bytes; each term says above what it is made of."""
    c, ndim = len(plan.channels), plan.ndim
    write = math.prod(min(b, n) for b, n in zip(plan.block, plan.space.shape, strict=True))
    read = plan.read_box(Box((0,) * ndim, plan.block).shift(_middle(plan))).size
    item = np.dtype(plan.dtype).itemsize
    held = read * (c * (_HELD_BYTES + item + _GUIDE_BYTES * len(plan.guides)) + _STATE_BYTES * plan.n_state)
    holes = _most_holes(plan, write)
    sums = holes * (c * _SUM_BYTES + _STRONGEST_BYTES) + write * _NUMBER_BYTES
    stored = write * _STORED_COPIES * n_file_channels * item
    composite = holes * c * _COMPOSITE_BYTES + write * (c * _ERROR_BYTES + _ORIGIN_BYTES * plan.n_state)
    held += math.ceil(_cells_bytes(plan, read))
    return base_bytes(plan) + held + sums + stored + composite + _patch_bytes(plan)


def _most_holes(plan: Plan, pixels: int) -> int:
    """Return the most pixels of a block, which has so many, that are holes in any channel; all if it is not known."""
    found = [row.holes * plan.n_state // len(plan.channels) for row in plan.blocks]
    return min(pixels, max(found, default=pixels))


def _cells_bytes(plan: Plan, pixels: int) -> float:
    """Return the bytes of the cells that a block of so many pixels to read holds; an exact fill is not held."""
    c, found = len(plan.channels), 0.0
    if plan.guess_factor > 1:
        found += c * pixels / plan.guess_factor**plan.ndim
    if plan.beyond_cell:
        found += (2 * plan.n_state + 3 * c + 1 + 2 * _told(plan)) * pixels / plan.beyond_cell**plan.ndim
    return _CELL_BYTES * found


def _told(plan: Plan) -> int:
    """Return the number of channels for which the whole image says something of a relation, see `read_beyond`."""
    return sum(len(r.every) if isinstance(r, Siblings) else len(plan.channels) for _, r in plan.recipe.consulted)


def base_bytes(plan: Plan) -> int:
    """Return the memory of a process before it reads a pixel, in bytes."""
    if plan.model is None:
        return _BASE_BYTES
    return _BASE_BYTES + _TORCH_BYTES + min(_PREPARED_BYTES * plan.forwards, _PREPARED_MOST)


def _survey_bytes(n_values: int, n_unknowns: int, n_exact: int, channels: int, *, guided: bool) -> int:
    """Return what the coarse fill, or what is found before it, adds to an idle process.

    `n_exact` counts the pixels of an exact fill, else 0; that takes more than what is found of cells before it.
    """
    fill = n_values * _COARSE_BYTES + n_unknowns * _UNKNOWN_BYTES
    cells = min(n_values // channels, _BEYOND_CELLS)
    beyond = n_values * _CELLS_BYTES + cells * (_BEYOND_BYTES + channels * _BEYOND_CHANNEL_BYTES)
    if guided:
        beyond += _asked_bytes(min(cells, _CORRECTION_CELLS), channels, channels)
    return max(fill, n_exact * _EXACT_BYTES + n_values * _EXACT_VALUE_BYTES if n_exact else beyond)


def most_unknowns(holes: int, pixels: int) -> int:
    """Return how many pixels the coarse fill may have to estimate where contaminated ones are looked for.

    They are estimated as holes are; how many there will be is not known before, so as many as there are holes count.
    """
    return min(pixels, max(2 * holes, _FREE_UNKNOWNS))


def doubt_bytes(looked: int, own: int, others: int) -> int:
    """Return what looking for thin cloud and shadow adds, in bytes.

    Args:
        looked: pixels that are held at once.
        own: bands of the image.
        others: bands of all references.
    """
    dated = _DOUBT_DATED_BYTES + others * _DOUBT_BAND_BYTES if others else 0
    return looked * (_DOUBT_BYTES + own * _DOUBT_OWN_BYTES + dated)


def _test_bytes(plan: Plan, tested: int, at_once: int) -> int:
    """Return what the self-test adds, in windows of so many pixels of which the network sees some at a time."""
    values, guided = tested * len(plan.channels), bool(plan.guides)
    network = tested * (at_once * _ACTIVATION_BYTES[plan.ndim] + _TEST_LEFT_BYTES[plan.ndim])
    # error bars are made when the network has seen all
    last = max(values * _TEST_BARS_BYTES * guided, network if plan.model is not None else 0)
    return values * (_TEST_BYTES[plan.ndim] + _TEST_GUIDED_BYTES * guided) + last


def _patch_bytes(plan: Plan) -> int:
    """Return the bytes of what is computed at once: windows of a batch, and a reference of one or the network on all.

    References of all windows have been asked before the network sees the first.
    """
    c = len(plan.channels)
    patch = plan.window or math.prod(min(p, n) for p, n in zip(plan.lattice.patch, plan.space.shape, strict=True))
    window = patch * c * _WINDOW_BYTES
    if plan.beyond_cell:
        window += patch * (c + _told(plan)) * _BEYOND_WINDOW_BYTES
    network = 0
    if plan.model is not None:
        network = plan.batch * patch * c * _NETWORK_CHANNEL_BYTES
        network += (plan.seen or patch) * _ACTIVATION_BYTES[plan.ndim]
    return plan.batch * window + max(network, _reference_bytes(plan, patch))


def _reference_bytes(plan: Plan, pixels: int) -> int:
    """Return what it takes to ask references, or the channels of the image itself, of so many pixels, in bytes."""
    c, guides = len(plan.channels), len(plan.guides)
    if not guides:
        # the image's own channels are predicted one after the other
        return _asked_bytes(pixels, 1, c) if plan.n_state > 1 else 0
    joints = [relation for relation in plan.recipe.relations if isinstance(relation, Joint)]
    # as long as no relation is known, a guide has as many bands as the image
    bands = max((len(joint.relation.axes[0]) for joint in joints), default=min(guides * c, MOST_BANDS))
    return _asked_bytes(pixels, c, bands)


def _asked_bytes(pixels: int, channels: int, bands: int) -> int:
    """Return what it takes to predict channels together from so many bands."""
    each = _REFERENCE_BYTES + channels * _REFERENCE_CHANNEL_BYTES + bands * _REFERENCE_BAND_BYTES
    return pixels * each + _SLAB_BYTES + bands * _SLAB_BAND_BYTES


def auto_block(plan: Plan, n_file_channels: int, memory_bytes: int) -> tuple[int, ...]:
    """Return the largest standard block whose worker fits the memory; the smallest if none does."""
    from dataclasses import replace

    for size in _BLOCK_SIZES[plan.ndim]:
        block = (size,) * plan.ndim
        if worker_bytes(replace(plan, block=block), n_file_channels) <= memory_bytes:
            return block
    return (_BLOCK_SIZES[plan.ndim][-1],) * plan.ndim


def check_fits(plan: Plan, n_file_channels: int, memory_bytes: int) -> None:
    """Refuse a plan whose workers do not fit the memory.

    Raises:
        PlanRefused: with needed and given bytes, and what to change.
    """
    need = worker_bytes(plan, n_file_channels)
    if need > memory_bytes:
        block = "x".join(map(str, plan.block))
        raise PlanRefused(
            f"{plan.source.paths[0]}: a block of {block} pixels x {len(plan.channels)} channels needs "
            f"{need / 2**30:.2f} GiB, {_given(memory_bytes)}. {_enough(need)}, or set a smaller compute.block or "
            "patch.size"
        )


def check_doubt(path: str, looked: int, bands: tuple[int, int], memory_bytes: int) -> None:
    """Refuse an image in which thin cloud could not be looked for, see `doubt_bytes`; only small limits are ever hit.

    `bands` are those of the image and of all references.

    Raises:
        PlanRefused: with needed and given bytes.
    """
    need = _BASE_BYTES + doubt_bytes(looked, *bands)
    if need > memory_bytes:
        raise PlanRefused(
            f"{path}: looking for thin cloud beside the mask, in {sum(bands)} bands of image and references, needs "
            f"{need / 2**30:.2f} GiB, {_given(memory_bytes)}. {_enough(need)}"
        )


def check_survey(path: str, counts: tuple[int, int, int], channels: int, memory_bytes: int, *, guided: bool) -> None:
    """Refuse an image whose coarse fill would not fit; its size is bounded, so only small limits are ever hit.

    `counts` are those of coarse values, unknowns and, for an exact fill, pixels.

    Raises:
        PlanRefused: with needed and given bytes.
    """
    need = _BASE_BYTES + _survey_bytes(*counts, channels, guided=guided)
    if need > memory_bytes:
        raise PlanRefused(
            f"{path}: the survey's coarse fill ({counts[1]} unknowns) needs {need / 2**30:.2f} GiB, "
            f"{_given(memory_bytes)}. {_enough(need)}"
        )


def _given(count: int) -> str:
    return (
        f"a worker may take {told_bytes(count)} (compute.memory_per_worker, and at most {100 * USABLE:.0f} % of what "
        "this machine, container or job allows)"
    )


def _enough(need: int) -> str:
    return f"Allow at least {math.ceil(need / 2**30 * 10) / 10:.1f} GiB"


def _middle(plan: Plan) -> tuple[int, ...]:
    """Origin of a block in the middle of the image, where its read box is widest."""
    return tuple(max(0, (n - b) // 2) for n, b in zip(plan.space.shape, plan.block, strict=True))
