"""The report's pictures: the right plane, the right way round, at the right place, in true proportion."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from pipeline.geometry.box import Box
from pipeline.geometry.space import Space
from pipeline.masks.base import DOUBT, HAZY, KEEP
from pipeline.report.bands import rgb_channels, wavelengths
from pipeline.report.drawing import DOUBT_COLOUR, HAZE_COLOUR, RAMP, colour, ramp, stretch, webp
from pipeline.report.highlights import find_highlights
from pipeline.report.panels import Pixels, Rendering, view_of
from pipeline.report.planes import Planes
from pipeline.restore.codes import CLASSICAL
from pipeline.system.threads import threaded
from pipeline.system.words import number

CODES = ["".join(code) for axes in permutations(("LR", "PA", "IS")) for code in product(*axes)]
SHAPE = (10, 9, 8)


def _space(codes: str, steps: tuple[float, ...] = (1.0, 1.0, 1.0), *, turn: float = 0.0) -> Space:
    """Return a volume whose axes i, j, k point to `codes`, turned about x by `turn` degrees about 10, 20, 30."""
    rows = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(nibabel.orientations.axcodes2ornt(tuple(codes))):
        rows[int(world), axis] = sign * steps[axis]
    angle = np.radians(turn)
    rows = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]) @ rows
    origin = np.array([10.0, 20.0, 30.0]) - rows @ ((np.asarray(SHAPE[::-1]) - 1) / 2)
    affine = np.column_stack([rows, origin])
    return Space(kind="volume", shape=SHAPE, affine=tuple(affine.ravel().tolist()), crs="RAS+", units="mm")


def _world(space: Space) -> np.ndarray:
    """Return x, y, z of every voxel, `(3, k, j, i)`."""
    rows = np.reshape(space.affine, (3, 4))
    k, j, i = np.indices(space.shape)
    return np.einsum("ra,akji->rkji", rows[:, :3], np.stack([i, j, k])) + rows[:, 3, None, None, None]


@pytest.mark.parametrize("codes", CODES)
def test_left_is_left_for_every_order_of_storage(codes: str) -> None:
    """Coordinates grow to the marked side: x to R, y to A, z to S; the title has the coordinate of the plane itself."""
    space = _space(codes)
    world = _world(space)
    axial, coronal, sagittal = Planes(space).whole((4, 4, 3))
    for plane, across, right in ((axial, 2, 0), (coronal, 1, 0), (sagittal, 0, 1)):
        up = ({0, 1, 2} - {across, right}).pop()
        shown = plane.cut(lambda box: world[(slice(None), *box.slices)])
        assert plane.letters == ("LPI"[right], "RAS"[right], "RAS"[up], "LPI"[up])
        assert (np.diff(shown[right], axis=1) > 0.5).all()
        assert (np.diff(shown[up], axis=0) < -0.5).all()
        name, axis = ("sagittal", "coronal", "axial")[across], "xyz"[across]
        assert plane.title == f"{name}, {axis} = {shown[across].mean():.1f} mm"
        assert np.ptp(shown[across]) < 1e-9


def test_an_oblique_plane_says_how_far_it_is_off() -> None:
    """Turned about x, axial and coronal planes are off and sagittal ones are not; the place is that of the middle."""
    axial, coronal, sagittal = Planes(_space("LPI", turn=17.0)).whole((4, 4, 3))
    assert axial.title.startswith("axial, z = ")
    assert axial.title.endswith(" mm in its middle, oblique by 17.0°")
    assert coronal.title.endswith("oblique by 17.0°")
    assert "oblique" not in sagittal.title


def test_a_file_that_knows_no_sides_gets_question_marks() -> None:
    """Letters that are a guess look like one."""
    assert Planes(_space("RAS"), sure=False).whole((4, 4, 3))[0].letters == ("L?", "R?", "A?", "P?")


def test_thick_slices_are_shown_in_true_proportion() -> None:
    """The extents are those of the body; details are cut in the plane of the finest steps."""
    planes = Planes(_space("ASR", (1.0, 5.0, 1.0)))
    axial, coronal, sagittal = planes.whole((4, 4, 3))
    assert coronal.extent == (10, 45)
    assert sagittal.extent == (8, 45)
    assert axial.extent == (10, 8)
    detail = planes.detail((0, 1, 2))
    assert detail.title.startswith("axial")
    assert detail.box.shape[1] == 1
    assert planes.coarsest == 0
    assert Planes(_space("ASR", (5.0, 1.0, 1.0))).coarsest == 1
    assert Planes(_space("RAS")).coarsest == 0


@pytest.mark.parametrize(
    ("names", "of_several", "said"),
    [
        (["volume_3"], True, "The input as stored: volume_3."),
        (["image"], False, "The input as stored."),
        (
            ["red", "green", "blue"],
            True,
            "The input as stored. Colours: red 1.16 to 8.84, green 1.16 to 8.84, blue 1.16 to 8.84.",
        ),
    ],
)
def test_the_caption_says_which_channels_are_shown(names: list[str], of_several: bool, said: str) -> None:
    """A grey picture is of one of them; which one cannot be seen."""
    n = len(names)
    values = np.tile(np.linspace(1, 9, 9).reshape(1, 3, 3), (n, 1, 1))
    plane = Planes(Space(kind="raster", shape=(3, 3), affine=(1, 0, 0, 0, -1, 0))).whole((0, 0))[0]
    codes = np.zeros((3, 3), np.uint8)
    pixels = Pixels(plane=plane, before=values, after=values, sigma=values[0], origin=codes, states=None)
    rendering = Rendering(
        channels=range(n), names=names, of_several=of_several, units="", scales=[(1.0, 0.0)] * n,
        sigma_scale=1.0, sigma_top=1.0, noun="pixels", quality=50,
    )  # fmt: skip
    assert view_of(pixels, rendering).before.caption == said


def test_hazy_and_doubted_pixels_have_colours_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not used is blue, what is used without its haze light blue; the caption says both."""
    shown: list[np.ndarray] = []

    def kept(values: np.ndarray, _: int) -> str:
        shown.append(values)
        return str(len(shown) - 1)

    monkeypatch.setattr("pipeline.report.panels.webp", kept)
    values = np.tile(np.linspace(1, 9, 9).reshape(1, 3, 3), (3, 1, 1))
    plane = Planes(Space(kind="raster", shape=(3, 3), affine=(1, 0, 0, 0, -1, 0))).whole((0, 0))[0]
    states = np.array([[DOUBT, HAZY, KEEP]] * 3, np.uint8)
    codes = np.zeros((3, 3), np.uint8)
    rendering = Rendering(
        channels=range(3), names=["r", "g", "b"], of_several=False, units="", scales=[(1.0, 0.0)] * 3,
        sigma_scale=1.0, sigma_top=1.0, noun="pixels", quality=50,
    )  # fmt: skip
    pixels = Pixels(plane=plane, before=values, after=values, sigma=values[0], origin=codes, states=states)
    marked = view_of(pixels, rendering).holes
    assert "kept but not used, in blue; those used without the haze or shadow over them in light blue" in marked.caption
    plain = colour(values, *pixels.stretch)[1].astype(int)
    some = shown[int(marked.uri)][1].astype(int)
    assert np.abs(some[0] - (plain[0] + DOUBT_COLOUR) / 2).max() <= 1
    assert np.abs(some[1] - (plain[1] + HAZE_COLOUR) / 2).max() <= 1
    assert np.array_equal(some[2], plain[2])


def test_a_lost_slice_is_shown_between_its_own_values() -> None:
    """Nothing of it is observed: what it got would be all white beside a stretch of nothing."""
    made = np.linspace(700, 900, 9).reshape(1, 3, 3)
    plane = Planes(Space(kind="raster", shape=(3, 3), affine=(1, 0, 0, 0, -1, 0))).whole((0, 0))[0]
    codes = np.full((3, 3), CLASSICAL, np.uint8)
    pixels = Pixels(
        plane=plane, before=np.full((1, 3, 3), np.nan), after=made, sigma=made[0], origin=codes, states=None
    )
    grey = colour(pixels.after, *pixels.stretch)[..., 0]
    assert grey.min() == 0
    assert grey.max() == 255
    assert np.unique(grey).size > 6


def test_scale_bars_are_round_numbers() -> None:
    """At most a third of the width, 1, 2 or 5 times a power of ten, in the grid's unit."""
    plane = Planes(Space(kind="raster", shape=(10, 10), affine=(1, 0, 0, 0, -1, 0))).whole((0, 0))[0]
    for width, units, said in (
        (3000.0, "m", "1 km"), (7000.0, "m", "2 km"), (2999.0, "m", "500 m"), (0.3, "deg", "0.1°"),
        (180.0, "mm", "50 mm"), (9.0, "unknown", "2 units"),
    ):  # fmt: skip
        share, text = replace(plane, extent=(width, width), units=units).scale_bar
        assert text == said
        assert 0 < share <= 1 / 3 + 1e-9


@pytest.mark.parametrize(
    ("affine", "crs", "north"),
    [
        ((10, 0, 0, 0, -10, 0), "EPSG:32633", True),
        ((10, 0, 0, 0, -10, 0), "", False),
        ((10, 0, 0, 0, 10, 0), "EPSG:32633", False),
        ((10, 3, 0, 3, -10, 0), "EPSG:32633", False),
    ],
)
def test_only_north_up_rasters_have_a_north_arrow(affine: Any, crs: str, north: bool) -> None:
    """Not what is turned, upside down or on no map."""
    plane = Planes(Space(kind="raster", shape=(10, 10), affine=affine, crs=crs, units="m")).whole((0, 0))[0]
    assert plane.north_up is north
    assert plane.letters == ()


def test_large_rasters_are_thinned_and_details_are_not() -> None:
    """Thinning does not depend on how the image is cut into strips; a detail is moved to lie inside."""
    values = np.arange(1300 * 700).reshape(1, 1300, 700)
    planes = Planes(Space(kind="raster", shape=(1300, 700), affine=(1, 0, 0, 0, -1, 0)))
    (whole,) = planes.whole((0, 0))
    assert whole.step == 3
    assert np.array_equal(whole.cut(lambda box: values[(slice(None), *box.slices)]), values[:, ::3, ::3])
    detail = planes.detail((1299, 5))
    assert (detail.step, detail.box) == (1, Box((1044, 0), (1300, 256)))


def _plan(shape: tuple[int, ...], blocks: list[Box]) -> Any:
    return SimpleNamespace(
        space=SimpleNamespace(shape=shape), ndim=len(shape), spacing=(1.0,) * len(shape), blocks=blocks,
        block_box=lambda number: blocks[number],
    )  # fmt: skip


@pytest.mark.parametrize(("factor", "threads"), [(1, 1), (3, 1), (1, 3)])
def test_places_are_the_largest_holes_and_the_least_certain_pixels(factor: int, threads: int) -> None:
    """Ordered by size, across blocks, deep inside; uncertain places are apart; cells of a large image hide nothing."""
    shape = (450 * factor, 400)
    code = np.zeros((1, *shape), dtype=np.uint8)
    code[0, 10:40, 10:40], code[0, 190:260, 200:250], code[0, 300:303, 300:303], code[0, 100, 390] = 1, 2, 10, 1
    code[0, 300, 10:60] = 255
    sigma = np.where((code > 0) & (code < 255), 1.0, 0.0)
    sigma[0, 301, 301], sigma[0, 302, 302], sigma[0, 12, 12] = 9.0, 8.0, 7.0
    blocks = [Box((0, 0), (200, 400)), Box((200, 0), (450, 400))]
    with threaded(threads):
        places = find_highlights(_plan(shape, blocks), lambda b: code[b.at()], lambda b: sigma[b.at()], [0])
    assert [place.size for place in places.holes] == [3500, 900, 9]
    inside = (Box((200, 210), (250, 240)), Box((15, 15), (35, 35)), Box((300, 300), (303, 303)))
    for place, box in zip(places.holes, inside, strict=True):
        assert all(a <= c < b for a, c, b in zip(box.start, place.centre, box.stop, strict=True))
        assert 0 < code[0][place.centre] < 255
    assert [place.size for place in places.uncertain] == [9, 7, 1]
    assert places.uncertain[0].centre == (301, 301)
    assert places.cell == factor


def test_colours_follow_what_was_observed() -> None:
    """The stretch leaves out holes and NaN; a flat image is no division by zero; numbers are short."""
    values = np.array([[[0.0, 50.0, 100.0, 9e9, np.nan]]])
    low, high = stretch(values, values[0] < 1e9)
    assert (float(low[0, 0, 0]), float(high[0, 0, 0])) == pytest.approx((2, 98))
    picture = colour(values, low, high)
    assert picture.shape == (1, 5, 3)
    assert picture[0, :, 0] == pytest.approx([0, 127.5, 255, 255, 0])
    flat = np.zeros((1, 2, 2))
    assert (colour(flat, *stretch(flat, flat[0] == 0)) == 0).all()
    assert webp(picture, 80).startswith("data:image/webp;base64,")
    assert [number(v) for v in (0.0, 12.345, 1234.5)] == ["0", "12.3", "1,234"]


def _tagged(*tags: dict[str, dict[str, str]]) -> Any:
    return SimpleNamespace(n_channels=len(tags), attributes={"band_tags": tags})


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (["B02", "B03", "B04", "B08"], [], [2, 1, 0]),
        (["x_red", "x_green", "nir", "x_blue"], [], [0, 1, 3]),
        ([f"b{k}" for k in range(13, 26)], [], [3, 2, 1]),
        (["a", "b", "c", "d"], [0.842, 0.665, 0.56, 0.49], [1, 2, 3]),
        (["a", "b", "c", "d"], [0.842, 1.6, 2.2, 10.0], [2, 1, 0]),
        (["a"], [0.5], [0]),
    ],
)
def test_natural_colours_by_name_then_by_wavelength(names, known, expected):
    """Names that people use come first; then what the file says of wavelengths; then what is usual."""
    assert rgb_channels(names, known) == expected


def test_wavelengths_as_files_have_them():
    """GDAL's own tag in micrometres, ENVI's in its unit (nanometres without one); anything else is not known."""
    source = _tagged(
        {"IMAGERY": {"CENTRAL_WAVELENGTH_UM": "0.665"}},
        {"": {"wavelength": "560.0", "wavelength_units": "Nanometers"}},
        {"": {"wavelength": "0.49", "wavelength_units": "Micrometers"}},
        {"": {"wavelength": "842"}},
        {"": {"wavelength": "far"}},
        {"": {"wavelength": "3", "wavelength_units": "Index"}},
        {},
    )
    assert wavelengths(source) == [0.665, pytest.approx(0.56), 0.49, pytest.approx(0.842), None, None, None]
    assert wavelengths(SimpleNamespace(n_channels=2, attributes={})) == [None, None]


def test_a_share_that_is_no_number_is_black() -> None:
    """A value near the largest of its type makes errors that overflow; the page is made all the same."""
    picture = ramp(np.array([[np.nan, 0.0, 1.0]]))
    assert np.array_equal(picture, [[[0, 0, 0], [0, 0, 0], RAMP[-1]]])
