"""The lattice: weights that sum to exactly 1, no pixel without a patch, no patch without a reason."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice, axis_weights
from pipeline.plan.plan import patches_with_holes

_LONGEST = {1: 90, 2: 40, 3: 16}


@st.composite
def lattices(draw: st.DrawFn) -> Lattice:
    """Draw a lattice of 1 to 3 axes; images may be smaller than a patch."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, _LONGEST[ndim])) for _ in range(ndim))
    patch = tuple(draw(st.integers(1, 24)) for _ in range(ndim))
    overlap = tuple(draw(st.integers(0, p // 2)) for p in patch)
    return Lattice(shape=shape, patch=patch, overlap=overlap)


@st.composite
def lattices_with_box(draw: st.DrawFn) -> tuple[Lattice, Box]:
    """Draw a lattice and a box inside its image."""
    lattice = draw(lattices())
    start = tuple(draw(st.integers(0, n - 1)) for n in lattice.shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, lattice.shape, strict=True))
    return lattice, Box(start, stop)


def _everywhere(lattice: Lattice) -> list[tuple[int, ...]]:
    """All indices that could possibly matter, and some around them."""
    axes = [range(-2, n // s + 4) for n, s in zip(lattice.shape, lattice.stride, strict=True)]
    return list(product(*axes))


@given(lattices())
def test_weights_sum_to_exactly_one_everywhere(lattice):
    """No division is needed: the float64 sum over patches is 1.0, not nearly 1."""
    whole = Box.whole(lattice.shape)
    total = np.zeros(lattice.shape)
    for index in lattice.touching(whole):
        total += lattice.weights(index, whole)
    assert (total == 1.0).all()


@given(st.integers(1, 512), st.data())
def test_a_patch_and_its_neighbour_sum_to_one(size, data):
    """Along one axis the falling and the rising flank are exact complements, for any patch in use."""
    overlap = data.draw(st.integers(0, size // 2))
    weights = axis_weights(size, overlap)
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert (weights[size - overlap :] + weights[:overlap] == 1.0).all()
    assert (weights[overlap : size - overlap] == 1.0).all()
    assert (weights[: overlap // 4] == 0.0).all()


@given(lattices_with_box())
def test_touching_finds_exactly_the_patches_with_weight_in_a_box(case):
    """Brute force over a wide range of indices finds the same patches, in the same order."""
    lattice, box = case
    expected = [k for k in _everywhere(lattice) if (lattice.weights(k, box) > 0).any()]
    assert list(lattice.touching(box)) == expected


@given(lattices())
def test_support_is_where_the_weight_is_positive(lattice):
    """Every pixel of a support has weight, none outside it has."""
    whole = Box.whole(lattice.shape)
    for index in lattice.touching(whole):
        inside = np.zeros(lattice.shape, dtype=bool)
        inside[lattice.support(index).slices] = True
        assert np.array_equal(lattice.weights(index, whole) > 0, inside)


@given(lattices())
def test_counts_say_how_many_patches_there_are(lattice):
    """`counts` is the number of patches over the whole image, axis by axis, and indices start at 0."""
    indices = list(lattice.touching(Box.whole(lattice.shape)))
    assert int(np.prod(lattice.counts)) == len(indices)
    assert min(indices) == (0,) * len(lattice.shape)
    assert max(indices) == tuple(n - 1 for n in lattice.counts)


@given(lattices_with_box(), st.integers(0, 2**31))
def test_skipping_is_exact(case, seed):
    """The patches that run are those with weight on a hole; so over a hole the weights still sum to 1."""
    lattice, box = case
    hole = np.random.default_rng(seed).random((2, *box.shape)) < 0.02
    ran = list(patches_with_holes(lattice, box, hole))
    any_hole = hole.any(axis=0)
    total = sum((lattice.weights(k, box) for k in ran), np.zeros(box.shape))
    assert (total[any_hole] == 1.0).all()
    outside = [k for k in lattice.touching(box) if k not in ran]
    for index in outside:
        assert not (lattice.weights(index, box) > 0)[any_hole].any()
    for index in ran:
        assert any_hole[(lattice.support(index) & box).within(box)].any()


@given(lattices_with_box(), st.integers(1, 30))
def test_the_patches_over_a_pixel_do_not_depend_on_the_size_of_the_image(case, more):
    """Anchored to the origin: a larger image has the same patches and weights over the same box."""
    lattice, box = case
    larger = Lattice(shape=tuple(n + more for n in lattice.shape), patch=lattice.patch, overlap=lattice.overlap)
    assert list(larger.touching(box)) == list(lattice.touching(box))
    for index in lattice.touching(box):
        assert np.array_equal(larger.weights(index, box), lattice.weights(index, box))


@given(lattices_with_box(), st.data())
def test_tiles_cover_a_box_once(case, data):
    """Blocks: the union of the tiles of a box is the box, no pixel twice, in C order, anchored to the origin."""
    lattice, box = case
    size = tuple(data.draw(st.integers(1, 20)) for _ in lattice.shape)
    count = np.zeros(lattice.shape, dtype=int)
    starts = []
    for tile in box.tiles(size):
        assert not tile.empty
        count[tile.slices] += 1
        starts.append(tile.start)
        assert all(a == b or a % n == 0 for a, b, n in zip(tile.start, box.start, size, strict=True))
    assert (count[box.slices] == 1).all()
    assert count.sum() == box.size
    assert starts == sorted(starts)


@pytest.mark.parametrize(("patch", "overlap"), [(16, 9), (16, -1), (1, 1)])
def test_an_impossible_overlap_is_refused(patch, overlap):
    """More than half a patch would put three patches over a pixel."""
    with pytest.raises(ValueError, match=f"overlap {overlap} on axis 0"):
        Lattice(shape=(10,), patch=(patch,), overlap=(overlap,))
