"""Make the picture of the README from the folder of a finished image: `python docs/make_pictures.py out/sentinel/NAME`.

The panels are those of the report, so the picture shows what a run really gave.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path

from PIL import Image

from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.report.build import pictures

_GAP = 8
_MAX_BYTES = 300_000


def montage(folder: Path) -> Image.Image:
    """Return the last view of the report (around the largest hole) as one row: before, holes, after, uncertainty."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    views = pictures(load_plan(WorkFolder.of(folder)), record, folder)
    panels = [Image.open(io.BytesIO(base64.b64decode(panel.uri.split(",", 1)[1]))) for panel in views[-1]]
    height = max(panel.height for panel in panels)
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    row = Image.new("RGB", (width, height), "white")
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width + _GAP
    return row


def main(folder: Path, target: Path) -> None:
    """Write the picture as WebP, small enough for a page that loads at once."""
    picture = montage(folder)
    target.parent.mkdir(exist_ok=True)
    for quality in (88, 75, 60):
        picture.save(target, "WEBP", quality=quality, method=6)
        if target.stat().st_size < _MAX_BYTES:
            return
    raise SystemExit(f"{target}: {target.stat().st_size} bytes, more than {_MAX_BYTES}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python docs/make_pictures.py FOLDER_OF_A_FINISHED_IMAGE [TARGET.webp]")
    default = Path(__file__).parent / "images" / "demo.webp"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else default)
