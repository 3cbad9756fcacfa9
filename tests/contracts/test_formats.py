"""What every format promises, checked for each kind in the registry, third-party ones included."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pipeline import registry
from pipeline.errors import OutputConflict, SourceError
from pipeline.formats import open_any
from pipeline.geometry.box import Box
from tests.support_formats import (
    DTYPES,
    MemoryImage,
    digest,
    layer_of,
    memory_image,
    options,
    same_bytes,
    whole,
)

SHAPES = {
    "raster": [(1, 1), (7, 1), (1, 9), (33, 47)],
    "volume": [(1, 1, 1), (5, 1, 3), (1, 7, 4), (9, 8, 7)],
}
CASES = [(kind, space) for kind in registry.kinds("formats") for space in registry.load("formats", kind).SPACE_KINDS]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[ModuleType, str]:
    """A format module and a kind of space it can hold."""
    kind, space = request.param
    return registry.load("formats", kind), space


def _write(module: ModuleType, image: MemoryImage, tmp_path: Path, name: str = "image", **fields: Any) -> Path:
    path = tmp_path / (name + module.SUFFIXES[0])
    module.write(layer_of(image, **fields), path, image, image.read, options(tmp_path))
    return path


class TestFormat:
    """Round trip, windows, determinism and failure of every format."""

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_identity_of_every_dtype(self, case: Any, dtype: str, tmp_path: Path) -> None:
        """What was read is what is written: pixels bit for bit, and every fact of the header."""
        module, space = case
        image = memory_image(SHAPES[space][-1], dtype, channels=3)
        first = module.open_source([str(_write(module, image, tmp_path))])
        again = tmp_path / ("again" + module.SUFFIXES[0])
        module.write(layer_of(first), again, first, first.read, options(tmp_path))
        for result in (first, module.open_source([str(again)])):
            assert same_bytes(result.read(whole(result)), image.values)
            assert result.space == image.space
            assert result.channel_names == image.channel_names
            assert result.scale_offset == image.scale_offset
            assert str(result.nodata) == str(image.nodata)

    @pytest.mark.parametrize("at", range(4))
    def test_identity_of_odd_shapes(self, case: Any, at: int, tmp_path: Path) -> None:
        """Images of one pixel, one row or one column survive."""
        module, space = case
        image = memory_image(SHAPES[space][at], "int16")
        result = module.open_source([str(_write(module, image, tmp_path))])
        assert result.space == image.space
        assert same_bytes(result.read(whole(result)), image.values)

    def test_windows_and_channels_select(self, case: Any, tmp_path: Path) -> None:
        """A window is the same part of the whole image, for any slice of channels."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "uint16", channels=4)
        source = module.open_source([str(_write(module, image, tmp_path))])
        box = Box.whole(image.space.shape).grow(-2)
        assert same_bytes(source.read(box, slice(1, 3)), image.read(box, slice(1, 3)))
        with pytest.raises(ValueError, match="not inside"):
            source.read(box.grow(3))

    def test_never_where_nothing_was_observed(self, case: Any, tmp_path: Path) -> None:
        """Nodata and non-finite values are never touched; the shape is (1 or c, *box)."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "float32", channels=2)
        source = module.open_source([str(_write(module, image, tmp_path))])
        box = whole(source)
        assert np.array_equal(np.broadcast_to(source.never(box), image.values.shape), image.never(box))
        assert source.never(box).any()

    def test_bands_are_selected_by_number_and_name(self, case: Any, tmp_path: Path) -> None:
        """`bands` takes 1-based numbers and names, in any order; an unknown one is refused."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "int16", channels=3)
        path = str(_write(module, image, tmp_path))
        source = module.open_source([path], bands=[3, image.channel_names[0]])
        assert source.channel_names == (image.channel_names[2], image.channel_names[0])
        assert same_bytes(source.read(whole(source)), image.values[[2, 0]])
        with pytest.raises(SourceError, match="1-3"):
            module.open_source([path], bands=["no such band"])

    def test_a_selection_can_be_written(self, case: Any, tmp_path: Path) -> None:
        """The result of a run on some bands has those bands and the same grid."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "int16", channels=3)
        some = module.open_source([str(_write(module, image, tmp_path))], bands=[2])
        path = tmp_path / ("some" + module.SUFFIXES[0])
        module.write(layer_of(some), path, some, some.read, options(tmp_path))
        result = module.open_source([str(path)])
        assert same_bytes(result.read(whole(result)), image.values[[1]])
        assert result.space == image.space

    def test_bytes_depend_on_pixels_alone(self, case: Any, tmp_path: Path) -> None:
        """Neither a second run nor another memory bound (hence other windows) changes a byte."""
        module, space = case
        image = memory_image((1200, 700) if space == "raster" else (9, 8, 7), "uint16", channels=2)
        one = digest(_write(module, image, tmp_path, "one"))
        two = tmp_path / ("two" + module.SUFFIXES[0])
        module.write(layer_of(image), two, image, image.read, options(tmp_path, memory_bytes=1))
        assert digest(two) == one

    def test_pickles_and_reads_from_many_threads(self, case: Any, tmp_path: Path) -> None:
        """A source travels to a worker and is read there by several threads at once."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "float64", channels=2)
        source = pickle.loads(pickle.dumps(module.open_source([str(_write(module, image, tmp_path))])))
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda _: source.read(whole(source)), range(16)))
        assert all(same_bytes(part, image.values) for part in parts)
        source.close()

    def test_stage_changes_nothing_that_is_seen(self, case: Any, tmp_path: Path) -> None:
        """A staged source has the same facts and pixels, and staging twice is staging once."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "int16", channels=2)
        source = module.open_source([str(_write(module, image, tmp_path))])
        staged = source.stage(tmp_path / "staged")
        assert (staged.paths, staged.space) == (source.paths, source.space)
        assert same_bytes(staged.read(whole(source)), image.values)
        before = [p.stat().st_mtime_ns for p in (tmp_path / "staged").glob("*")]
        source.stage(tmp_path / "staged")
        assert [p.stat().st_mtime_ns for p in (tmp_path / "staged").glob("*")] == before

    @pytest.mark.parametrize(("role", "dtype"), [("uncertainty", "float32"), ("source", "uint8")])
    def test_other_layers_keep_the_grid(self, case: Any, role: str, dtype: str, tmp_path: Path) -> None:
        """Uncertainty and source lie on the input's grid, in their own dtype, without its offset."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "int16", channels=2)
        like = module.open_source([str(_write(module, image, tmp_path))])
        nodata = float("nan") if role == "uncertainty" else None
        layer = layer_of(like, role, dtype=np.dtype(dtype), nodata=nodata)
        path = tmp_path / (role + module.SUFFIXES[0])
        module.write(layer, path, like, lambda box: np.ones((2, *box.shape), dtype), options(tmp_path))
        result = module.open_source([str(path)])
        assert (result.space, result.dtype) == (image.space, np.dtype(dtype))
        assert all(offset == 0 for _, offset in result.scale_offset)
        assert bool((result.read(whole(result)) == 1).all())

    def test_failure_leaves_nothing_behind(self, case: Any, tmp_path: Path) -> None:
        """If the pixels cannot be had, no file appears and the scratch folder is empty."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "int16")
        path = tmp_path / ("failed" + module.SUFFIXES[0])

        def broken(box: Box) -> Any:
            raise SourceError("the disk is gone")

        with pytest.raises(SourceError, match="the disk is gone"):
            module.write(layer_of(image), path, image, broken, options(tmp_path))
        assert not path.exists()
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_unusable_scratch_is_an_output_conflict(self, case: Any, tmp_path: Path) -> None:
        """What the disk refuses is an error that names the file, with the exit code for outputs."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "int16")
        path = tmp_path / ("image" + module.SUFFIXES[0])
        (tmp_path / "scratch").touch()
        with pytest.raises(OutputConflict, match=path.name):
            module.write(layer_of(image), path, image, image.read, options(tmp_path))

    def test_an_old_result_is_replaced_whole(self, case: Any, tmp_path: Path) -> None:
        """Writing over an existing result leaves the new one only."""
        module, space = case
        _write(module, memory_image(SHAPES[space][-1], "int16", seed=1), tmp_path)
        image = memory_image(SHAPES[space][-1], "int16", seed=2)
        result = module.open_source([str(_write(module, image, tmp_path))])
        assert same_bytes(result.read(whole(result)), image.values)
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_wrong_pixels_are_refused(self, case: Any, tmp_path: Path) -> None:
        """A writer never converts: another dtype or shape is a bug of the caller and is named."""
        module, space = case
        image = memory_image(SHAPES[space][-1], "int16")
        path = tmp_path / ("wrong" + module.SUFFIXES[0])
        with pytest.raises(ValueError, match="expected int16"):
            module.write(layer_of(image), path, image, lambda box: np.zeros((1, *box.shape)), options(tmp_path))

    def test_is_found_without_being_named(self, case: Any, tmp_path: Path) -> None:
        """`open_any` finds the format from the suffix, and from the content when the name says nothing."""
        module, space = case
        path = _write(module, memory_image(SHAPES[space][-1], "int16"), tmp_path)
        kind = module.__name__.rsplit(".", 1)[-1]
        assert open_any(str(path)).kind == kind
        nameless = path.rename(tmp_path / "nameless")
        assert open_any(str(nameless)).kind == kind

    def test_missing_file_names_its_neighbour(self, case: Any, tmp_path: Path) -> None:
        """A typo in a path is answered with the nearest name in the folder."""
        module, space = case
        path = _write(module, memory_image(SHAPES[space][-1], "int16"), tmp_path)
        with pytest.raises(SourceError, match=f"did you mean {path.name}"):
            open_any(str(path.with_name("imag" + module.SUFFIXES[0])))
