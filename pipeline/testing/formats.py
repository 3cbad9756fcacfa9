"""The contract of formats, see `pipeline.formats.base`."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NoReturn

import numpy as np

from pipeline import registry
from pipeline.errors import ConfigError, OutputConflict, SourceError
from pipeline.formats import open_any
from pipeline.formats._view import cropped
from pipeline.formats.base import Source, WriteOptions
from pipeline.geometry.box import Box
from pipeline.testing.guards import no_pixels_read, refused
from pipeline.testing.images import DTYPES, ArraySource, digest, layer_of, random_image, same_bytes, whole

_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "raster": ((1, 1), (7, 1), (1, 9), (33, 47)),
    "volume": ((1, 1, 1), (5, 1, 3), (1, 7, 4), (9, 8, 7)),
}


def options(folder: Path, memory_bytes: int = 256 * 2**20) -> WriteOptions:
    """Return write options with a scratch folder in `folder`."""
    return WriteOptions(scratch=folder / "scratch", memory_bytes=memory_bytes)


class FormatContract:
    """What was read is what is written, bit for bit, and a window is the same part of the whole image.

    ::

        class TestMine(FormatContract):
            kind = "mine"
            space = "volume"
    """

    kind: str
    """The format, as the config names it."""
    space: Literal["raster", "volume"] = "raster"
    """Kind of grid to test; a format that holds both is tested twice."""

    @property
    def module(self) -> ModuleType:
        """The format."""
        return registry.load("formats", self.kind)

    def image(self, dtype: str = "int16", channels: int = 1, seed: int = 0) -> ArraySource:
        """Return a random image of the kind of grid that is tested."""
        return random_image(_SHAPES[self.space][-1], dtype, channels=channels, seed=seed)

    def written(self, image: ArraySource, folder: Path, name: str = "image", memory_bytes: int = 256 * 2**20) -> Path:
        """Write an image into `folder` and return its path."""
        path = folder / f"{name}{self.module.SUFFIXES[0]}"
        self.module.write(layer_of(image), path, image, image.read, options(folder, memory_bytes))
        return path

    def opened(self, path: Path, **selection: Any) -> Source:
        """Open what was written."""
        source: Source = self.module.open_source([str(path)], **selection)
        return source

    def test_identity_of_every_dtype(self, tmp_path: Path) -> None:
        """What was read is what is written: pixels bit for bit, and every fact of the header."""
        for dtype in DTYPES:
            image = self.image(dtype, channels=3)
            first = self.opened(self.written(image, tmp_path, dtype))
            again = tmp_path / (f"{dtype}-again" + self.module.SUFFIXES[0])
            self.module.write(layer_of(first), again, first, first.read, options(tmp_path))
            for result in (first, self.opened(again)):
                assert same_bytes(result.read(whole(result)), image.values), dtype
                assert result.space == image.space, dtype
                assert result.channel_names == image.channel_names, dtype
                assert result.scale_offset == image.scale_offset, dtype
                assert str(result.nodata) == str(image.nodata), dtype

    def test_identity_of_odd_shapes(self, tmp_path: Path) -> None:
        """Images of one pixel, one row or one column survive."""
        for shape in _SHAPES[self.space]:
            image = random_image(shape, "int16")
            result = self.opened(self.written(image, tmp_path, "x".join(map(str, shape))))
            assert result.space == image.space
            assert same_bytes(result.read(whole(result)), image.values), shape

    def test_opening_reads_headers_only(self, tmp_path: Path) -> None:
        """An image of any size is opened at once: no pixel is asked for."""
        path = self.written(self.image(), tmp_path)
        with no_pixels_read(type(self.opened(path))):
            self.opened(path)

    def test_windows_and_channels_select(self, tmp_path: Path) -> None:
        """A window is the same part of the whole image, for any slice of channels."""
        image = self.image("uint16", channels=4)
        source = self.opened(self.written(image, tmp_path))
        box = whole(image).grow(-2)
        assert same_bytes(source.read(box, slice(1, 3)), image.read(box, slice(1, 3)))
        with refused(ValueError, "not inside"):
            source.read(box.grow(3))

    def test_never_where_nothing_was_observed(self, tmp_path: Path) -> None:
        """Nodata and non-finite values are never touched; the shape is (1 or c, *box)."""
        image = self.image("float32", channels=2)
        source = self.opened(self.written(image, tmp_path))
        box = whole(source)
        assert np.array_equal(np.broadcast_to(source.never(box), image.values.shape), image.never(box))
        assert source.never(box).any()

    def test_bands_are_selected_by_number_and_name(self, tmp_path: Path) -> None:
        """`bands` takes 1-based numbers and names, in any order; an unknown one is refused."""
        image = self.image(channels=3)
        path = self.written(image, tmp_path)
        source = self.opened(path, bands=[3, image.channel_names[0]])
        assert source.channel_names == (image.channel_names[2], image.channel_names[0])
        assert same_bytes(source.read(whole(source)), image.values[[2, 0]])
        with refused(ConfigError, "1-3"):
            self.opened(path, bands=["no such band"])

    def test_a_selection_can_be_written(self, tmp_path: Path) -> None:
        """The result of a run on some bands has those bands and the same grid."""
        image = self.image(channels=3)
        some = self.opened(self.written(image, tmp_path), bands=[2])
        path = tmp_path / ("some" + self.module.SUFFIXES[0])
        self.module.write(layer_of(some), path, some, some.read, options(tmp_path))
        result = self.opened(path)
        assert same_bytes(result.read(whole(result)), image.values[[1]])
        assert result.space == image.space

    def test_a_part_can_be_written(self, tmp_path: Path) -> None:
        """The result of a run on a part of the image has its pixels, its header, and the place of the part."""
        image = self.image(channels=2)
        like = self.opened(self.written(image, tmp_path))
        shape = image.space.shape
        box = Box(tuple(n // 4 for n in shape), tuple(n - n // 4 for n in shape))
        part = cropped(like, box)
        for role in ("restored", "source"):
            layer = layer_of(part) if role == "restored" else layer_of(part, role, dtype=np.dtype("uint8"), nodata=None)
            path = tmp_path / (f"part_{role}" + self.module.SUFFIXES[0])
            values = part.read(whole(part)).astype(layer.dtype)
            self.module.write(layer, path, part, lambda at, v=values: v[(slice(None), *at.slices)], options(tmp_path))
            result = self.opened(path)
            assert same_bytes(result.read(whole(result)), values)
            assert result.space == part.space
            assert not result.space.mismatch(image.space.part(box))

    def test_bytes_depend_on_pixels_alone(self, tmp_path: Path) -> None:
        """Neither a second run nor another memory bound (hence other windows) changes a byte."""
        image = random_image((1200, 700) if self.space == "raster" else (9, 8, 7), "uint16", channels=2)
        two = self.written(image, tmp_path, "two", memory_bytes=1)
        assert digest(two) == digest(self.written(image, tmp_path, "one"))

    def test_pickles_and_reads_from_many_threads(self, tmp_path: Path) -> None:
        """A source travels to a worker and is read there by several threads at once."""
        image = self.image("float64", channels=2)
        source = pickle.loads(pickle.dumps(self.opened(self.written(image, tmp_path))))
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda _: source.read(whole(source)), range(16)))
        assert all(same_bytes(part, image.values) for part in parts)
        source.close()

    def test_stage_changes_nothing_that_is_seen(self, tmp_path: Path) -> None:
        """A staged source has the same facts and pixels, and staging twice is staging once."""
        image = self.image(channels=2)
        source = self.opened(self.written(image, tmp_path))
        staged = source.stage(tmp_path / "staged")
        assert (staged.paths, staged.space) == (source.paths, source.space)
        assert same_bytes(staged.read(whole(source)), image.values)
        before = [p.stat().st_mtime_ns for p in (tmp_path / "staged").glob("*")]
        source.stage(tmp_path / "staged")
        assert [p.stat().st_mtime_ns for p in (tmp_path / "staged").glob("*")] == before

    def test_other_layers_keep_the_grid(self, tmp_path: Path) -> None:
        """Uncertainty and source lie on the input's grid, in their own dtype, without its offset."""
        image = self.image(channels=2)
        like = self.opened(self.written(image, tmp_path))
        for role, dtype, nodata in (("uncertainty", "float32", float("nan")), ("source", "uint8", None)):
            layer = layer_of(like, role, dtype=np.dtype(dtype), nodata=nodata)
            path = tmp_path / (role + self.module.SUFFIXES[0])
            ones = np.ones((2, *image.space.shape), dtype)
            self.module.write(layer, path, like, lambda box, v=ones: v[(slice(None), *box.slices)], options(tmp_path))
            result = self.opened(path)
            assert (result.space, result.dtype) == (image.space, np.dtype(dtype))
            assert all(offset == 0 for _, offset in result.scale_offset)
            assert bool((result.read(whole(result)) == 1).all())

    def test_failure_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """If the pixels cannot be had, no file appears and the scratch folder is empty."""
        image = self.image()
        path = tmp_path / ("failed" + self.module.SUFFIXES[0])

        def broken(box: Box) -> NoReturn:
            raise SourceError(f"the disk is gone, and {box} with it")

        with refused(SourceError, "the disk is gone"):
            self.module.write(layer_of(image), path, image, broken, options(tmp_path))
        assert not path.exists()
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_unusable_scratch_is_an_output_conflict(self, tmp_path: Path) -> None:
        """What the disk refuses is an error that names the file, with the exit code for outputs."""
        (tmp_path / "scratch").touch()
        with refused(OutputConflict, "image" + self.module.SUFFIXES[0]):
            self.written(self.image(), tmp_path)

    def test_an_old_result_is_replaced_whole(self, tmp_path: Path) -> None:
        """Writing over an existing result leaves the new one only."""
        self.written(self.image(seed=1), tmp_path)
        image = self.image(seed=2)
        result = self.opened(self.written(image, tmp_path))
        assert same_bytes(result.read(whole(result)), image.values)
        assert list((tmp_path / "scratch").iterdir()) == []

    def test_wrong_pixels_are_refused(self, tmp_path: Path) -> None:
        """A writer never converts: another dtype or shape is a bug of the caller and is named."""
        image = self.image()
        path = tmp_path / ("wrong" + self.module.SUFFIXES[0])
        with refused(ValueError, "expected int16"):
            self.module.write(layer_of(image), path, image, lambda box: np.zeros((1, *box.shape)), options(tmp_path))

    def test_is_found_without_being_named(self, tmp_path: Path) -> None:
        """`open_any` finds the format from the suffix, and from the content when the name says nothing."""
        path = self.written(self.image(), tmp_path)
        assert open_any(str(path)).kind == self.kind
        nameless = path.rename(tmp_path / "nameless")
        assert open_any(str(nameless)).kind == self.kind

    def test_missing_file_names_its_neighbour(self, tmp_path: Path) -> None:
        """A typo in a path is answered with the nearest name in the folder."""
        path = self.written(self.image(), tmp_path)
        with refused(SourceError, f"did you mean {path.name}"):
            open_any(str(path.with_name("imag" + self.module.SUFFIXES[0])))
