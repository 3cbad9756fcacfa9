"""PSNR of the hole pixels of a result, dB: `python -m benchmarks.speed.score SCENE_FOLDER RESULT`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.quality import scores
from pipeline.formats import open_any
from pipeline.geometry.box import Box


def main() -> None:
    """Print the mean over bands; the range of each is the 1st to 99th percentile of the truth."""
    folder, result = Path(sys.argv[1]), sys.argv[2]
    truth = np.load(folder / "truth.npy", mmap_mode="r")
    suffix = ".tif" if truth.ndim == 3 else ".nii.gz"
    whole = Box.whole(truth.shape[1:])
    hole = np.broadcast_to(open_any(str(folder / f"mask{suffix}")).read(whole) != 0, truth.shape)
    values = open_any(result).read(whole)
    spans = scores.robust_range(truth, np.ones(truth.shape[1:], dtype=bool))
    print(scores.psnr(scores.channel_mse(values, truth, hole), spans))


if __name__ == "__main__":
    main()
