"""Do error bars hold on images that nothing was chosen on: `INPAINT_DATA=... python -m benchmarks.coverage`.

Holes at other places, with other seeds and mostly in other subjects and scenes than those of `benchmarks.quality`,
restored by the ordinary command with its defaults. For each file the share of true errors inside the 90 % interval,
over all hole pixels that count (of volumes: foreground) and by family of holes; below, the share of files within 85 to
95 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# arithmetic libraries with threads of their own would only get in the way
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from benchmarks.quality import holes
from benchmarks.quality.engine import restore
from benchmarks.quality.scenes import Guide, Image, flat, read_raster
from benchmarks.quality.scores import coverage
from benchmarks.quality.volumes import bright, middle, read_volume
from pipeline.numerics.situation import FAMILIES, situation

Mask = NDArray[np.bool_]
Cut = Callable[[np.random.Generator, Image], Mask]

SIZE = (64, 220, 220)
"""Voxels of the piece of a volume, fewer along thick slices."""

HELD = (0.85, 0.95)
"""Share of errors inside the 90 % interval that a file may have."""

FEWEST = 64
"""Hole pixels of a family below which its coverage is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One hole in one image."""

    kind: str
    """`volume`, `raster`, or either with ` + guide`."""
    image: str
    hole: str
    load: Callable[[], Image]
    cut: Cut

    @property
    def name(self) -> str:
        """Unique within the benchmark; seeds the hole."""
        return f"{self.image} / {self.hole}"

    def build(self) -> tuple[Image, Mask]:
        """Return the image and the hole `(c, *spatial)`."""
        image = self.load()
        hole = self.cut(np.random.default_rng(zlib.crc32(self.name.encode())), image)
        return image, np.array(np.broadcast_to(hole, image.values.shape))


def piece(file: str, shift: tuple[float, float, float], guides: tuple[str, ...] = ()) -> Image:
    """Return a piece of a volume whose middle lies `shift` of the piece's size beside that of the foreground."""
    values, spacing = read_volume(file)
    air = np.median(values[0][np.ix_((0, -1), (0, -1), (0, -1))])
    body = bright(values[0] - air)
    size = tuple(
        min(n, round(m * min(1.0, 2.0 * min(spacing) / s)))
        for n, m, s in zip(values.shape[1:], SIZE, spacing, strict=True)
    )
    box = []
    for part, move, n, full in zip(middle(body, size), shift, size, values.shape[1:], strict=True):
        start = int(np.clip(part.start + round(move * n), 0, full - n))
        box.append(slice(start, start + n))
    cut = (slice(None), *box)
    return Image(
        values=values[cut],
        hidden=np.zeros(body[tuple(box)].shape, dtype=bool),
        counted=body[tuple(box)],
        spacing=spacing,
        guides=tuple(Guide(values=read_volume(g)[0][cut], auxiliary=True) for g in guides),
    )


def _slices(number: int, axis: int = 0) -> Cut:
    def cut(rng: np.random.Generator, image: Image) -> Mask:
        shape = np.moveaxis(image.counted, axis, 0).shape
        return np.moveaxis(holes.slices(rng, shape, number, groups=1), 0, axis)

    return cut


def _slab(axis: int, far: bool, depth: int) -> Cut:
    return lambda _, image: holes.margin(image.counted.shape, depth, ((axis, far),))


def _blobs(low: float, high: float, count: int) -> Cut:
    return lambda rng, image: holes.blobs(rng, image.counted, (low, high), count, image.spacing)


def _lesions(patient: str) -> Cut:
    """Lay a patient's lesions over the piece, turned by 180 degrees about the first axis."""

    def cut(_: np.random.Generator, image: Image) -> Mask:
        mask = read_volume(f"{patient}/lesion_mask.nii.gz")[0][0][:, ::-1, ::-1] > 0
        found = binary_dilation(mask[middle(mask, image.counted.shape)], iterations=2)
        hole = np.zeros(image.counted.shape, dtype=bool)
        hole[tuple(slice(n) for n in found.shape)] = found
        return np.asarray(hole & image.counted)

    return cut


SLICES = {"1 slice": _slices(1), "3 slices": _slices(3), "2 slices, other axis": _slices(2, axis=1)}
WIDE = {
    "blobs 4": _blobs(3, 5, 10),
    "blobs 9": _blobs(8, 10, 4),
    "lesions": _lesions("ms_patient19_mni"),
    "slab": _slab(1, False, 8),
}
VOLUMES = {
    "oasis-1000": ("oasis_t1_brains/1000_SS.nii.gz", (0.2, 0.1, 0.1)),
    "oasis-1006": ("oasis_t1_brains/1006_SS.nii.gz", (-0.1, 0.1, -0.1)),
    "oasis-1012": ("oasis_t1_brains/1012_SS.nii.gz", (0.3, 0.0, 0.1)),
    "oasis-1015": ("oasis_t1_brains/1015_SS.nii.gz", (0.0, -0.2, 0.1)),
    "child": ("child_head_t1/sag_anon_t1.nii.gz", (0.0, 0.2, 0.2)),
    "chris-t1": ("chris_head/chris_t1.nii.gz", (-0.6, 0.0, 0.0)),
    "ms19-flair": ("ms_patient19_mni/FLAIR.nii.gz", (0.3, 0.3, 0.0)),
    "ms07-t2": ("ms_patient07_mni/T2.nii.gz", (0.1, -0.2, 0.0)),
    "brats": ("brats2013_pat0003/Flair_subtrMeanDivStd.nii.gz", (0.1, 0.1, 0.1)),
    "mslong-t2": ("ms_long_patient01_raw/study1_T2W.nii.gz", (0.0, 0.0, 0.0)),
    "chris-pd": ("chris_head/chris_PD.nii.gz", (0.3, 0.3, 0.0)),
    "ct": ("ct_abdomen/example_ct.nii.gz", (0.0, 0.0, 0.0)),
}
GUIDED = {
    "ms07-t2+flair": ("ms_patient07_mni/T2.nii.gz", ("ms_patient07_mni/FLAIR.nii.gz",), (0.1, -0.2, 0.0)),
    "ms07-flair+t1+t2": (
        "ms_patient07_mni/FLAIR.nii.gz",
        ("ms_patient07_mni/T1.nii.gz", "ms_patient07_mni/T2.nii.gz"),
        (-0.1, 0.2, 0.1),
    ),
    "ms19-t1+flair": ("ms_patient19_mni/T1.nii.gz", ("ms_patient19_mni/FLAIR.nii.gz",), (0.3, 0.3, 0.0)),
}
FLAT: dict[str, Cut] = {
    "clouds": lambda rng, image: holes.cloud(rng, image.counted.shape, 0.2),
    "points": lambda rng, image: holes.points(rng, image.counted.shape, 0.5),
    "stripes": lambda rng, image: holes.wedges(rng, image.counted.shape),
    "squares": lambda rng, image: holes.squares(rng, image.counted.shape, 44, 4),
    "margin": lambda _, image: holes.margin(image.counted.shape, 20, ((1, False),)),
}
RASTERS = {
    "chicago-p505": ("s2_cr_chicago/ROIs1868_summer_s2_101_p505.tif", (2, 4, 8), None),
    "volga-p840": ("s2_cr_volga/ROIs1970_fall_s2_136_p840.tif", (3, 8, 12), None),
    "llanos-p753": ("s2_cr_llanos/ROIs1970_fall_s2_85_p753.tif", (3, 4, 8), None),
    "peru-2010": ("landsat_peru_years/landsat_2010.tif", (1, 3, 4), (20, 20, 256, 256)),
    "corumba": ("l8_corumba/LC08_L1TP_227074_20190825_20200826_02_T1.tif", (2, 4, 6), (200, 200, 256, 256)),
    "chiapas": ("le7_chiapas/LE70220491999322EDC01_stack.gtif", (1, 3, 5), (0, 0, 256, 256)),
}
PAIRS = {
    "chicago-p840": ("s2_cr_chicago/ROIs1868_summer_s2", "101_p840"),
    "volga-p316": ("s2_cr_volga/ROIs1970_fall_s2", "136_p316"),
    "lazio-p500": ("s2_cr_lazio/ROIs1868_summer_s2", "102_p500"),
    "llanos-p753": ("s2_cr_llanos/ROIs1970_fall_s2", "85_p753"),
}


def all_cases() -> Iterator[Case]:
    """Yield every case: volumes with lost slices and wide holes, rasters with theirs, each also with guides."""
    for name, (file, shift) in VOLUMES.items():
        for hole, cut in (SLICES | WIDE).items():
            yield Case(kind="volume", image=name, hole=hole, load=lambda f=file, s=shift: piece(f, s), cut=cut)
    for name, (file, others, shift) in GUIDED.items():
        for hole in ("blobs 4", "blobs 9", "2 slices, other axis"):
            load = lambda f=file, s=shift, o=others: piece(f, s, o)  # noqa: E731
            yield Case(kind="volume + guide", image=name, hole=hole, load=load, cut=(SLICES | WIDE)[hole])
    for name, (file, bands, crop) in RASTERS.items():
        for hole, cut in FLAT.items():
            load = lambda f=file, b=bands, c=crop: flat(read_raster(f, b, c))  # noqa: E731
            yield Case(kind="raster", image=name, hole=hole, load=load, cut=cut)
    for name, (folder, number) in PAIRS.items():
        for hole in ("clouds", "squares"):
            load = lambda f=folder, n=number: _pair(f"{f}_{n}.tif", f"{f}_cloudy_{n}.tif")  # noqa: E731
            yield Case(kind="raster + guide", image=name, hole=hole, load=load, cut=FLAT[hole])


def _pair(target: str, other: str) -> Image:
    bands = (2, 4, 8, 12)
    return replace(flat(read_raster(target, bands)), guides=(Guide(values=read_raster(other, bands)),))


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Return the row of a case: coverage over what counts, over all hole pixels, and by family."""
    image, hole = case.build()
    started = time.perf_counter()
    done = restore(image, hole, folder)
    seconds = time.perf_counter() - started
    error, sigma = done.values.astype(np.float64) - image.values, done.sigma.astype(np.float64)
    shares = situation(~hole, hole, image.spacing).shares
    scored = hole & image.counted
    row: dict[str, Any] = {"kind": case.kind, "case": case.name}
    row |= {"coverage": coverage(error[scored], sigma[scored]), "all pixels": coverage(error[hole], sigma[hole])}
    for family, share in zip(FAMILIES, shares, strict=True):
        some = scored & (share > 0.5)
        row[family] = coverage(error[some], sigma[some]) if some.sum() >= FEWEST else float("nan")
    said = (done.record["self_test"] or {}).get("coverage_90")
    return row | {"said": float("nan") if said is None else said, "seconds": seconds}


def main() -> None:
    """Measure the cases that the command line asks for and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="cases with this in kind or name")
    parser.add_argument("--out", type=Path, help="add the rows to this file, as JSON lines")
    options = parser.parse_args()
    rows = []
    columns = ("coverage", "all pixels", *FAMILIES, "said", "seconds")
    print(f"{'':44}" + "".join(f"{name:>11}" for name in columns))
    for case in all_cases():
        if options.only and not any(text in f"{case.kind} / {case.name}" for text in options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measure(case, Path(folder) / "work")
        rows.append(row)
        print(f"{case.name:44}" + "".join(f"{row[name]:11.3f}" for name in columns), flush=True)
        if options.out:
            with options.out.open("a") as log:
                log.write(json.dumps(row) + "\n")
    for kind in dict.fromkeys(row["kind"] for row in rows):
        held = np.array([row["coverage"] for row in rows if row["kind"] == kind])
        low, high = ((held < HELD[0]).mean(), (held > HELD[1]).mean())
        print(f"{kind}: {1 - low - high:.0%} of {held.size} files within, {low:.0%} below, {high:.0%} above")


if __name__ == "__main__":
    sys.exit(main())
