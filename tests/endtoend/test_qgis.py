"""Results as QGIS shows them: each layer opens with its style, codes have names, and what is drawn is what is meant."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipeline.report.drawing import HAZE_COLOUR
from pipeline.restore.codes import CLASSICAL, NETWORK, NEVER_TOUCHED, OBSERVED, REFERENCE, REFUSED, source_colour
from tests.helpers import blobs, command, pixels, run_config, write_image

_PYTHON = "/usr/bin/python3"
"""Its packages are those of the system, which QGIS comes with."""
_SESSION = Path(__file__).parents[1] / "qgis_session.py"
_MAGENTA = (255, 0, 255)
"""What the session draws on."""
_SIDE = 96


def _require_qgis() -> None:
    found = (
        Path(_PYTHON).exists()
        and subprocess.run([_PYTHON, "-c", "import qgis.core"], check=False, capture_output=True).returncode == 0
    )
    if not found and os.environ.get("INPAINT_REQUIRE_QGIS"):
        pytest.fail(f"INPAINT_REQUIRE_QGIS is set, but {_PYTHON} cannot import qgis")
    if not found:
        pytest.skip("no QGIS here: apt install python3-qgis")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a restored scene with haze beside its clouds, nodata at its edge and a clear date."""
    _require_qgis()
    folder = tmp_path_factory.mktemp("scene")
    rng = np.random.default_rng(1)
    shape = (_SIDE, _SIDE)
    ground = 1000 + 800 * ndimage.gaussian_filter(rng.normal(size=shape), 6) + 30 * rng.normal(size=(4, *shape))
    hole = blobs(shape, seed=2, n=3, radius=9) > 0
    haze = np.array([500, 400, 300, 50])[:, None, None] * np.exp(-ndimage.distance_transform_edt(~hole) / 4)
    scene = np.where(hole, 4000, np.rint(ground + haze)).astype(np.uint16)
    scene[:, :, :5] = 0

    def describe(dataset: Any) -> None:
        dataset.descriptions = ("blue", "green", "red", "nir")

    image = write_image(folder / "scene.tif", scene, nodata=0, setup=describe)
    mask = write_image(folder / "mask.tif", (hole & (scene[0] > 0))[None].astype(np.uint8))
    clear = write_image(folder / "clear.tif", np.rint(ground - 40 + rng.normal(0, 15, scene.shape)).astype(np.uint16))
    guides = {"references": [{"path": str(clear), "mask": []}]}
    outcome = command("run", run_config(folder, image, mask, input=guides, output={"display": True}))
    assert outcome.code == 0, outcome.err
    return folder / "out" / "scene"


@pytest.fixture(scope="module")
def seen(results: Path) -> dict[str, dict[str, Any]]:
    """What QGIS said of each layer, and its picture as `drawn`."""
    names = [results / f"scene_{role}.tif" for role in ("restored", "uncertainty", "source", "doubt", "display")]
    pictures = results.parent / "pictures"
    pictures.mkdir()
    done = subprocess.run(
        [_PYTHON, _SESSION, pictures, *names], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    return {
        path.stem.removeprefix("scene_"): {
            **found[str(path)],
            "drawn": np.asarray(Image.open(pictures / f"{path.stem}.png")),
        }
        for path in names
    }


def _drawn(seen: dict[str, dict[str, Any]], role: str) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = seen[role]["drawn"][..., :3]
    return picture


def test_every_layer_opens_where_it_lies_with_its_style(results: Path, seen: dict[str, dict[str, Any]]) -> None:
    """Valid, the style taken without a word, the reference system and extent of the input, the names of bands."""
    with rasterio.open(results.parent.parent / "scene.tif") as image:
        extent, crs = tuple(image.bounds), f"EPSG:{image.crs.to_epsg()}"
    for layer in seen.values():
        assert layer["valid"], layer
        assert layer["style"] == [True, ""]
        assert layer["errors"] == []
        assert layer["crs"] == crs
        assert tuple(layer["extent"]) == extent
    bands = [f"Band {k}: {name}" for k, name in enumerate(("blue", "green", "red", "nir"), start=1)]
    assert all(seen[role]["names"] == bands for role in ("restored", "uncertainty", "display"))


def test_codes_have_names_and_colours(results: Path, seen: dict[str, dict[str, Any]]) -> None:
    """Each code by the name of the documents and its colour; what was observed or never touched is not painted."""
    names = {OBSERVED: "observed", CLASSICAL: "classical", NETWORK: "network", REFERENCE: "reference 0"}
    names |= {REFUSED: "refused", NEVER_TOUCHED: "never touched"}
    invisible = (OBSERVED, NEVER_TOUCHED)
    assert seen["source"]["classes"] == {
        str(code): [name, "#{:02x}{:02x}{:02x}".format(*source_colour(code)), 0 if code in invisible else 255]
        for code, name in names.items()
    }
    codes, drawn = pixels(results / "scene_source.tif")[0], _drawn(seen, "source")
    assert {OBSERVED, NEVER_TOUCHED} < set(np.unique(codes))
    for code in np.unique(codes):
        colour = _MAGENTA if code in invisible else source_colour(int(code))
        assert (drawn[codes == code] == colour).all()
    assert [row[0] for row in seen["doubt"]["classes"].values()][1:] == [
        "observed, but not used",
        "observed, used without the haze or shadow over it",
    ]
    hazy = pixels(results / "scene_doubt.tif")[0] == 2
    assert (_drawn(seen, "doubt")[hazy] == HAZE_COLOUR).all()
    assert hazy.any()


def test_images_are_drawn_in_natural_colours(results: Path, seen: dict[str, dict[str, Any]]) -> None:
    """Red, green and blue by their names, brighter where the values are larger, nothing over nodata."""
    for role in ("restored", "display"):
        layer, values = seen[role], pixels(results / f"scene_{role}.tif")
        assert (layer["renderer"], layer["bands"]) == ("multibandcolor", [3, 2, 1])
        content = values[0] > 0
        drawn = _drawn(seen, role)
        assert (drawn[~content] == _MAGENTA).all()
        for shown, band in enumerate((2, 1, 0)):
            assert np.corrcoef(drawn[content, shown], values[band][content])[0, 1] > 0.9
        assert drawn[content].std() > 30


def test_uncertainty_is_a_heat_map(results: Path, seen: dict[str, dict[str, Any]]) -> None:
    """Painted in holes alone, brighter where it is larger; the legend begins at 0."""
    layer = seen["uncertainty"]
    assert layer["renderer"] == "singlebandpseudocolor"
    (band,) = layer["bands"]
    sigma, drawn = pixels(results / "scene_uncertainty.tif")[band - 1], _drawn(seen, "uncertainty")
    restored = sigma > 0
    assert (drawn[~restored] == _MAGENTA).all()
    shades = drawn[restored].astype(float).sum(axis=1)
    assert np.corrcoef(shades, sigma[restored])[0, 1] > 0.8
    labels = [label for label, _ in layer["legend"]]
    assert labels[:2] == ["observed", "0"]
    assert [float(label) for label in labels[1:]] == sorted(float(label) for label in labels[1:])
