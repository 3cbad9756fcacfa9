"""A cloudy image as people have it: haze outside the mask, a clear date beside it, or nearly nothing seen."""

import json

import numpy as np
import pytest
from scipy import ndimage

from tests.helpers import command, pixels, run_config, write_image
from tests.unit.test_evidence_doubt import SHAPE, clouds, ground, ring
from tests.unit.test_evidence_veil import PLANTS, spoiled, varied

HAZE = np.array([500, 400, 300, 50])[:, None, None]


@pytest.fixture(scope="module")
def hazy(tmp_path_factory):
    """Write a scene with haze beside its clouds, their mask and a clear date; returns folder, scene, holes and haze."""
    folder = tmp_path_factory.mktemp("hazy")
    hole = clouds(2)
    haze = ring(hole, 4.0)
    scene = np.rint(ground(1) + HAZE * haze).astype(np.uint16)
    write_image(folder / "image.tif", np.where(hole, 4000, scene).astype(np.uint16))
    write_image(folder / "mask.tif", hole[None].astype(np.uint8))
    noise = np.random.default_rng(8).normal(0, 15, scene.shape)
    write_image(folder / "clear.tif", np.rint(ground(1) - 40 + noise).astype(np.uint16))
    return folder, scene, hole, haze


def restored(folder, hole_file, name="image.tif", **sections):
    """Run the command and return the folder of the results and the record."""
    outcome = command("run", run_config(folder, folder / name, folder / hole_file, **sections), "--overwrite")
    assert outcome.code == 0, outcome.err
    results = folder / "out" / name.split(".")[0]
    assert command("verify", folder / "out").code == 0
    record = json.loads(
        (results / "record.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    return results, record, outcome.err


@pytest.mark.parametrize("with_date", [True, False])
def test_haze_is_kept_and_the_holes_are_restored_without_it(hazy, with_date):
    """Hazy pixels come back bit for bit, in a map and a message; holes are nearly as dark as the ground."""
    folder, scene, hole, haze = hazy
    dates = {"references": [{"path": "clear.tif", "mask": []}]} if with_date else {}
    results, record, said = restored(folder, "mask.tif", input=dates, model={"kind": "tension"})
    reach = record["doubt"]["reach_px"]
    assert record["doubt"]["reach"] == f"{reach:.0f} px ({10 * reach:.3g} m)"
    assert f"up to {record['doubt']['reach']} from the mask" in said
    codes = pixels(results / "image_doubt.tif")[0]
    doubted = codes > 0
    assert doubted.sum() > 500
    assert record["holes"]["doubted"] == (codes == 1).sum()
    assert record["holes"]["hazy"] == (codes == 2).sum() > 0.9 * doubted.sum()
    assert "look like haze: they stay as they are, but what is restored from them" in said
    assert f"{(codes == 2).sum():,} observed pixels were used without the haze or shadow over them" in said
    assert not (doubted & hole).any()
    assert haze[doubted].mean() > 5 * haze[~doubted & ~hole].mean()
    image = pixels(results / "image_restored.tif").astype(float)
    assert np.array_equal(image[:, ~hole], scene[:, ~hole])
    assert (pixels(results / "image_source.tif")[0][doubted] == 0).all()
    bars = pixels(results / "image_uncertainty.tif")
    assert (bars[:, doubted] == 0).all()
    assert (np.abs(image - ground(1)) <= 1.645 * bars)[:, hole].mean() > 0.85
    excess = (image - ground(1))[0][hole].mean()
    assert excess < (60 if with_date else 130)


def test_thin_cloud_and_shadow_are_kept_and_the_holes_are_restored_without_them(tmp_path):
    """Pixels below one of them are evidence, those below both are doubted; all come back bit for bit."""
    clear, hole = varied(PLANTS), clouds(8)
    values, cloud, shadow = spoiled(clear, hole)
    scene = np.rint(values).astype(np.uint16)
    write_image(tmp_path / "image.tif", np.where(hole, 4000, scene).astype(np.uint16))
    write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    results, record, said = restored(tmp_path, "mask.tif", model={"kind": "tension"})
    codes = pixels(results / "image_doubt.tif")[0]
    assert (codes[cloud ^ shadow] == 2).mean() > 0.8
    assert (codes[ndimage.binary_erosion(cloud & shadow)] == 1).mean() > 0.9
    assert record["holes"]["hazy"] == (codes == 2).sum()
    assert "look like haze or thin cloud and shadow: they stay as they are, but what is restored from them" in said
    image = pixels(results / "image_restored.tif").astype(float)
    assert np.array_equal(image[:, ~hole], scene[:, ~hole])
    error = (image - clear)[:, hole]
    assert np.sqrt((error**2).mean()) < 50
    bars = pixels(results / "image_uncertainty.tif")
    assert (np.abs(error) <= 1.645 * bars[:, hole]).mean() > 0.85


def test_doubted_pixels_are_restored_on_request(hazy):
    """`input.fill_doubted` makes holes of them: they get a source and an uncertainty, and no map is written."""
    folder, scene, hole, _ = hazy
    dates = {"references": [{"path": "clear.tif", "mask": []}], "fill_doubted": True}
    results, record, said = restored(folder, "mask.tif", input=dates, model={"kind": "tension"})
    source = pixels(results / "image_source.tif")[0]
    more = (source != 0) & ~hole
    assert more.sum() > 500
    assert record["holes"]["doubted"] == 0
    assert record["holes"]["pixels"] == (source != 0).sum()
    assert "they are restored, too" in said
    assert not (results / "image_doubt.tif").exists()
    image = pixels(results / "image_restored.tif").astype(float)
    before, after = (np.abs(values - ground(1))[0][more].mean() for values in (scene, image))
    assert after < 0.4 * before


@pytest.mark.parametrize("seen", [0.15, 0.004])
def test_a_clear_date_leads_where_nearly_all_is_hidden(hazy, tmp_path, seen):
    """No grey smear: structure of the clear date in every hole, though little or nothing can be hidden for a test."""
    scene = np.rint(ground(1)).astype(np.uint16)
    field = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=SHAPE), 8)
    hole = field < np.quantile(field, 1 - seen)
    write_image(tmp_path / "image.tif", np.where(hole, 4000, scene).astype(np.uint16))
    write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    (tmp_path / "clear.tif").write_bytes((hazy[0] / "clear.tif").read_bytes())
    dates = {"references": [{"path": "clear.tif", "mask": []}]}
    results, record, _ = restored(tmp_path, "mask.tif", input=dates, model={"kind": "tension"})
    image = pixels(results / "image_restored.tif").astype(float)
    assert record["holes"]["by_source"].get("reference 0", 0) > 0.97 * hole.sum()
    truth = ground(1)
    fine = [(values - ndimage.gaussian_filter(values, (0, 6, 6)))[:, hole] for values in (image, truth)]
    assert np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1] > 0.8
    assert 0.75 < fine[0].std() / fine[1].std() < 1.25
    assert (pixels(results / "image_uncertainty.tif")[:, hole] > 0).all()


def test_scattered_holes_are_no_clouds_however_many(tmp_path):
    """Where 81 % of the pixels are lost one by one the others are close by, and all of them are trusted."""
    scene = np.rint(ground(3)).astype(np.uint16)
    hole = np.random.default_rng(4).random(SHAPE) < 0.81
    write_image(tmp_path / "image.tif", np.where(hole, 0, scene).astype(np.uint16))
    write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    results, record, _ = restored(tmp_path, "mask.tif", model={"kind": "tension"})
    assert record["holes"]["doubted"] == 0
    assert record["self_test"]["placements"] >= 2
    error = (pixels(results / "image_restored.tif").astype(float) - scene)[:, hole]
    # coarse structure of 57 is restored, the noise of 30 cannot be
    assert np.sqrt((error**2).mean()) < 45


def test_haze_of_one_cloud_is_doubted_whatever_the_blocks(tmp_path):
    """Only pixels beside it, the same ones however the image is cut; its holes are not filled with haze."""
    hole = clouds(2)
    some = ndimage.label(hole)[0]
    some = some == np.argmax(np.bincount(some.ravel())[1:]) + 1
    haze = np.exp(-((ndimage.distance_transform_edt(~some) / 10) ** 2))
    scene = np.rint(ground(1) + 0.3 * HAZE * haze).astype(np.uint16)
    write_image(tmp_path / "image.tif", np.where(hole, 4000, scene).astype(np.uint16))
    write_image(tmp_path / "mask.tif", hole[None].astype(np.uint8))
    found = []
    for size in (64, 256):
        results, record, _ = restored(
            tmp_path, "mask.tif", model={"kind": "tension"}, patch={"size": size, "overlap": 16}
        )
        assert len(record["doubt"]["places"]) == 1
        found.append([pixels(results / f"image_{layer}.tif") for layer in ("doubt", "restored")])
    (doubt, image), (same_doubt, same_image) = found
    assert np.array_equal(doubt, same_doubt)
    assert np.array_equal(image, same_image)
    assert (doubt[0] > 0)[~hole & (haze > 0.5)].mean() > 0.8
    assert not (doubt[0] > 0)[ndimage.distance_transform_edt(~some) > 40].any()


def test_stripes_that_no_sensor_saw_do_not_hide_what_a_cloud_leaves_beside_it(tmp_path):
    """With a stripe every 24 pixels nothing is far from a hole, but haze around the clouds is far from all stripes."""
    hole, stripes = clouds(2), np.zeros(SHAPE, dtype=bool)
    for row in range(14):
        stripes[row::24] = True
    scene = np.rint(ground(1) + HAZE * ring(hole, 4.0)).astype(np.uint16)
    write_image(tmp_path / "image.tif", np.where(stripes, 0, np.where(hole, 4000, scene)).astype(np.uint16), nodata=0)
    write_image(tmp_path / "mask.tif", (hole & ~stripes)[None].astype(np.uint8))
    masks = [{"kind": "nodata", "max_gap": "20 px"}, {"kind": "raster", "path": "mask.tif"}]
    results, record, _ = restored(tmp_path, "mask.tif", mask=masks, model={"kind": "tension"})
    told = pixels(results / "image_doubt.tif")[0] > 0
    seen = ~hole & ~stripes
    assert record["holes"]["doubted"] + record["holes"]["hazy"] == told.sum()
    near, far = (ndimage.distance_transform_edt(~hole) < limit for limit in (5, 24))
    assert told[seen & near].mean() > 0.8
    assert told[seen & ~far].mean() < 0.1
