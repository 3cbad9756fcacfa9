"""Make the pictures of the documents from what runs really gave: they are those of the report.

python docs/make_pictures.py demo FOLDER_OF_A_FINISHED_IMAGE      images/demo.webp: before, holes, after, uncertainty
python docs/make_pictures.py reports                              images/reports.webp: parts of reports (needs chromium)
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image

from pipeline.image.open import open_source
from pipeline.plan.plan import load_plan
from pipeline.plan.workdir import WorkFolder
from pipeline.report.gallery import gallery
from pipeline.run import run
from pipeline.synthetic.demo import write_demo_brain, write_demo_sentinel

_IMAGES = Path(__file__).parent / "images"
_GAP = 8
_MAX_BYTES = {"demo": 300_000, "reports": 400_000}
_CUT = {"raster": (1240, 1836), "dark": (1240, 1376), "volume": (1240, 836)}
"""Width and height of the part of a report that is shown, from the top of the page."""


def montage(folder: Path) -> Image.Image:
    """Return the pictures of the largest hole as one row: before, holes, after, uncertainty."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    plan = load_plan(WorkFolder.of(folder))
    if not plan.blocks:
        raise SystemExit(f"{folder}: nothing was restored there")
    pictures = gallery(plan, record, folder, open_source(plan.source))
    shown = pictures.sections[1].shown[0]
    chosen = (shown.before, shown.holes, shown.after, shown.uncertainty)
    return _beside([Image.open(io.BytesIO(base64.b64decode(p.uri.split(",", 1)[1]))) for p in chosen])


def reports(folder: Path) -> Image.Image:
    """Return parts of the reports of a raster with a reference and of one head stored in four ways."""
    scene = write_demo_sentinel(folder, shape=(640, 640))
    guides = [{"path": str(scene["reference"]), "mask": [{"kind": "scl", "path": str(scene["reference_scl"])}]}]
    masks = [{"kind": "scl", "path": str(scene["scl"]), "buffer": "60 m"}]
    page = _report(folder, {"source": str(scene["image"]), "references": guides}, masks)
    left = [_screenshot(page, "raster"), _screenshot(page, "dark")]
    head = write_demo_brain(folder, shape=(64, 80, 64))
    right = []
    for codes in ("LAS", "RAS", "PIR", "oblique"):
        image, mask = (_stored(head[kind], codes, folder / f"{codes}_{kind}.nii.gz") for kind in ("image", "mask"))
        page = _report(folder, {"source": str(image)}, [{"kind": "raster", "path": str(mask)}])
        right.append(_screenshot(page, "volume"))
    return _beside([_below(left), _below(right)])


def _report(folder: Path, source: dict[str, object], masks: list[dict[str, str]]) -> Path:
    config = folder / "run.json"
    stem = Path(str(source["source"])).name.split(".")[0]
    settings = {"input": source, "mask": masks, "model": {"kind": "tension"}, "output": {"directory": str(folder)}}
    config.write_text(json.dumps(settings), encoding="utf-8")
    run(config)
    return folder / stem / "report.html"


def _stored(path: Path, codes: str, target: Path) -> Path:
    """Store a volume along other axes, or turned by 18 degrees and in slices of three times their thickness."""
    stored = nibabel.load(path)
    if codes == "oblique":
        angle = np.radians(18)
        turn = np.eye(4)
        turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        affine = turn @ stored.affine @ np.diag([1, 1, 3, 1])
        image = nibabel.Nifti1Image(np.asarray(stored.dataobj)[..., ::3], affine, stored.header)
    else:
        image = stored.as_reoriented(ornt_transform(io_orientation(stored.affine), axcodes2ornt(tuple(codes))))
    nibabel.save(image, target)
    return target


def _screenshot(page: Path, part: str) -> Image.Image:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("pictures of reports need a browser: apt install chromium")
    target, (width, height) = page.with_suffix(".png"), _CUT[part]
    scheme = f"--blink-settings=preferredColorScheme={0 if part == 'dark' else 1}"
    window = [f"--window-size={width},{height}", "--hide-scrollbars", f"--screenshot={target}"]
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", scheme, *window, page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    picture = Image.open(target).convert("RGB")
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


def _beside(pictures: Sequence[Image.Image]) -> Image.Image:
    width = sum(picture.width for picture in pictures) + _GAP * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + _GAP
    return row


def _below(pictures: Sequence[Image.Image]) -> Image.Image:
    turned = [picture.transpose(Image.Transpose.TRANSPOSE) for picture in pictures]
    return _beside(turned).transpose(Image.Transpose.TRANSPOSE)


def save(picture: Image.Image, name: str) -> None:
    """Write a picture as WebP, small enough for a page that loads at once."""
    target = _IMAGES / f"{name}.webp"
    target.parent.mkdir(exist_ok=True)
    for quality in (88, 75, 60):
        picture.save(target, "WEBP", quality=quality, method=6)
        if target.stat().st_size < _MAX_BYTES[name]:
            return
    raise SystemExit(f"{target}: {target.stat().st_size} bytes, more than {_MAX_BYTES[name]}")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "demo":
        save(montage(Path(sys.argv[2])), "demo")
    elif sys.argv[1:] == ["reports"]:
        with tempfile.TemporaryDirectory(prefix="reports-") as scratch:
            save(reports(Path(scratch)), "reports")
    else:
        raise SystemExit(__doc__)
