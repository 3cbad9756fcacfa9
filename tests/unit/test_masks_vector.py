"""Shapes as masks: which pixels they mark, wherever their coordinates come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp
from numpy.typing import NDArray

from pipeline.errors import ConfigError, SourceError
from pipeline.formats import files_of
from pipeline.geometry.box import Box
from pipeline.geometry.places import moved_points, world_of
from pipeline.masks.base import ComposedMask, mask_options, open_masks
from pipeline.testing import ArraySource, raster_space, volume_space

WGS84 = rasterio.CRS.from_epsg(4326).to_wkt()
UTM33 = rasterio.CRS.from_epsg(32633).to_wkt()
IN_UTM = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
SHAPE = (12, 16)
SQUARE = [[500030, 5099960], [500070, 5099960], [500070, 5099980], [500030, 5099980], [500030, 5099960]]
"""Rows 2 and 3, columns 3 to 6 of the image."""


def _image(shape: tuple[int, int] = SHAPE, **more: Any) -> ArraySource:
    return ArraySource(values=np.ones((1, *shape), np.uint16), space=raster_space(shape, **{"crs": UTM33, **more}))


def _geojson(path: Path, *geometries: dict[str, Any] | None, **more: Any) -> str:
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **more}))
    return str(path)


def _polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [list(map(list, ring)) for ring in rings]}


def _mask(path: str, image: ArraySource | None = None, **more: Any) -> ComposedMask:
    return open_masks([mask_options({"kind": "vector", "path": path, **more})], image or _image(), lambda p: p)


def _holes(path: str, image: ArraySource | None = None, **more: Any) -> NDArray[np.bool_]:
    image = image or _image()
    return np.asarray(_mask(path, image, **more).read(Box.whole(image.space.shape))[0] == 1)


def _expected(
    rows: slice = slice(2, 4), cols: slice = slice(3, 7), shape: tuple[int, int] = SHAPE
) -> NDArray[np.bool_]:
    expected = np.zeros(shape, dtype=np.bool_)
    expected[rows, cols] = True
    return expected


def _degrees(points: Any, crs: str = "EPSG:4326") -> list[list[float]]:
    return [list(p) for p in zip(*rasterio.warp.transform(UTM33, crs, *zip(*points, strict=True))[:2], strict=True)]


def test_a_polygon_marks_the_pixels_whose_centres_it_holds(tmp_path):
    """In metres as the older `crs` member says, and in degrees as GeoJSON is meant, the same pixels are holes."""
    assert np.array_equal(_holes(_geojson(tmp_path / "utm.geojson", _polygon(SQUARE), crs=IN_UTM)), _expected())
    assert np.array_equal(_holes(_geojson(tmp_path / "deg.geojson", _polygon(_degrees(SQUARE)))), _expected())
    assert np.array_equal(_holes(_geojson(tmp_path / "named.json", _polygon(SQUARE)), crs="EPSG:32633"), _expected())


def test_all_touched_marks_more(tmp_path):
    """A polygon that reaches a little into pixels marks them only if asked."""
    wider = [[x + (5 if x > 500050 else -5) * 0.6, y] for x, y in SQUARE]
    path = _geojson(tmp_path / "m.geojson", _polygon(wider), crs=IN_UTM)
    assert np.array_equal(_holes(path), _expected())
    touched = _holes(path, all_touched=True)
    assert touched[2:4, 2:8].all()
    assert not touched[:, :2].any()


def test_every_kind_of_shape(tmp_path):
    """Rings inside are no holes of the image; lines and points mark what they touch; a feature may have no shape."""
    inner = [[500040, 5099960], [500050, 5099960], [500050, 5099980], [500040, 5099980], [500040, 5099960]]
    point = {"type": "Point", "coordinates": [500005, 5099995, 17.0]}
    line = {"type": "LineString", "coordinates": [[500105, 5099905], [500135, 5099905]]}
    both = {"type": "GeometryCollection", "geometries": [point, line]}
    expected = _expected()
    expected[2:4, 4] = False
    expected[0, 0] = expected[9, 10:14] = True
    assert np.array_equal(
        _holes(_geojson(tmp_path / "m.json", _polygon(SQUARE, inner), both, None, crs=IN_UTM)), expected
    )


def test_longitudes_repeat(tmp_path):
    """A polygon at -120 marks an image that counts its longitudes from 0 to 360."""
    ring = [[-120, 40], [-116, 40], [-116, 46], [-120, 46], [-120, 40]]
    space = replace(raster_space((45, 180)), crs=rasterio.CRS.from_epsg(4326).to_wkt(), affine=(2, 0, 0, 0, -2, 90))
    image = ArraySource(values=np.ones((1, 45, 180), np.uint8), space=space)
    expected = _expected(slice(22, 25), slice(120, 122), (45, 180))
    assert np.array_equal(_holes(_geojson(tmp_path / "m.geojson", _polygon(ring)), image), expected)


def test_long_edges_follow_their_own_reference_system(tmp_path):
    """A parallel between two corners 1.3 degrees apart bends by 6 pixels in UTM, and the mask with it."""
    ring = [[14.4, 45.5], [15.7, 45.5], [15.7, 45.9], [14.4, 45.9], [14.4, 45.5]]
    space = replace(_image((60, 100)).space, affine=(1000, 0, 453200, 0, -1000, 5090000))
    image = replace(_image((60, 100)), space=space)
    holes = _holes(_geojson(tmp_path / "m.geojson", _polygon(ring)), image)
    rows, cols = np.mgrid[:60, :100] + 0.5
    x, y = 453200 + 1000 * cols, 5090000 - 1000 * rows
    east, north = (np.reshape(v, x.shape) for v in rasterio.warp.transform(UTM33, "EPSG:4326", x.ravel(), y.ravel()))
    inside = (east > 14.4) & (east < 15.7) & (north > 45.5) & (north < 45.9)
    assert (holes != inside).sum() <= 2
    assert inside.sum() > 3000


EARTH = {
    "utm": ("EPSG:32633", (1000, 0, 470000, 0, -1000, 5030000)),
    "laea": ("EPSG:3035", (50000, 0, 2.8e6, 0, -50000, 4.5e6)),
    "pole": ("EPSG:3413", (10000, 0, -320000, 0, -10000, 300000)),
    "sinusoidal": ("+proj=sinu +R=6371007.181", (600000, 0, -1.9e7, 0, -330000, 1e7)),
    "sinusoidal elsewhere": ("+proj=sinu +lon_0=100 +R=6371007.181", (600000, 0, -1.9e7, 0, -330000, 1e7)),
    "robinson": ("+proj=robin", (540000, 0, -1.7e7, 0, -290000, 8.7e6)),
}
"""Images of a part of the earth or of all of it: their system, and where they lie in it."""


def _placed(crs: str, affine: tuple[float, ...]) -> ArraySource:
    image = _image((60, 64), crs=rasterio.CRS.from_user_input(crs).to_wkt())
    return replace(image, space=replace(image.space, affine=affine))


HALVES = {
    "earth": (-180, -90, 180, 90),
    "east": (15, -90, 180, 90),
    "north": (-180, 44.98, 180, 90),
    "south": (-180, -90, 180, -60),
}
"""Areas that are far larger than an image: west, south, east, north."""


@pytest.mark.parametrize("area", HALVES)
@pytest.mark.parametrize("image", EARTH)
def test_shapes_as_large_as_the_earth(tmp_path, image, area):
    """What lies far from the image neither takes its holes away nor comes back on the other side."""
    crs, affine = EARTH[image]
    target = _placed(crs, affine)
    west, south, east, north = HALVES[area]
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    holes = _holes(_geojson(tmp_path / "m.geojson", _polygon(ring)), target)
    cols, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(60) + 0.5)
    places = world_of(target.space, np.stack([cols.ravel(), rows.ravel()]))
    x, y = moved_points(target.space.crs, WGS84, *places)
    back = moved_points(WGS84, target.space.crs, np.nan_to_num(x), np.nan_to_num(y))
    on_earth = np.isfinite(x) & (np.abs(back - places).max(axis=0) < 1)
    inside = on_earth & (x > west) & (x < east) & (y > south) & (y < north)
    # straight edges are drawn in pieces, which bend less than a meridian near the pole
    assert ((holes.ravel() != inside) & on_earth).mean() < 0.01


def test_lines_and_points_far_beyond_the_image(tmp_path):
    """Only what lies around the image is drawn of them."""
    parallel = {
        "type": "LineString",
        "coordinates": [[-170, 45.0], [14.9, 45.0], [15.1, 45.0], [170, 45.0], [170, -90]],
    }
    points = {"type": "MultiPoint", "coordinates": [[15.0, 45.2], [-165, -89]]}
    image = _placed(*EARTH["utm"])
    holes = _holes(_geojson(tmp_path / "m.geojson", parallel, points), image)
    assert np.array_equal(np.flatnonzero(holes.any(axis=1)), [24, 46, 47])
    assert holes[46:48].any(axis=0).all()
    assert holes[24].sum() == 1
    far = _mask(_geojson(tmp_path / "far.geojson", {"type": "Point", "coordinates": [-165, -89]}), image)
    assert "none of its 1 shapes lies on the image" in far.notices[0]


def test_a_globe_seen_from_space_says_what_to_cut(tmp_path):
    """Shapes that reach behind the horizon are refused with the remedy, whatever failed before in the process."""
    image = _placed("+proj=geos +h=35785831 +lon_0=0 +sweep=y", (180000, 0, -5.7e6, 0, -180000, 5.4e6))
    ring = [[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]
    file = _geojson(tmp_path / "m.geojson", _polygon(ring))
    for _ in range(3):
        with pytest.raises(SourceError, match="has no coordinates; cut it to the surroundings"):
            _mask(file, image)
    ring = [[-5, -5], [5, -5], [5, 5], [-5, 5], [-5, -5]]
    assert _holes(_geojson(tmp_path / "m.geojson", _polygon(ring)), image).sum() == 36


@pytest.mark.parametrize(
    "named", ["http://127.0.0.1:9/crs", "/etc/hostname", "crs.wkt", "file:///etc/hostname", "my:crs.wkt", "+crs.wkt"]
)
def test_a_reference_system_is_no_file_and_no_address(tmp_path, monkeypatch, named):
    """GDAL would open what it does not know as a name."""
    monkeypatch.chdir(tmp_path)
    for name in ("crs.wkt", "my:crs.wkt", "+crs.wkt"):
        (tmp_path / name).write_text(UTM33)
    member = {"type": "name", "properties": {"name": named}}
    with pytest.raises(ConfigError, match="give a code such as EPSG:4326, WKT or the words of PROJ"):
        _mask(_geojson(tmp_path / "m.json", _polygon(SQUARE), crs=member))


def test_what_has_no_place_is_said(tmp_path):
    """Shapes elsewhere and empty files are a notice; metres taken for degrees, and no reference system, are refused."""
    far = _mask(_geojson(tmp_path / "far.json", _polygon([[x + 9e5, y] for x, y in SQUARE]), crs=IN_UTM))
    assert far.notices == (f"{tmp_path / 'far.json'}: none of its 1 shapes lies on the image",)
    assert _mask(_geojson(tmp_path / "empty.json")).notices == (f"{tmp_path / 'empty.json'}: holds no shape",)
    with pytest.raises(SourceError, match=r"500030, .* is no longitude and latitude.*set `crs`"):
        _mask(_geojson(tmp_path / "m.json", _polygon(SQUARE)))
    with pytest.raises(SourceError, match="the image has no reference system"):
        _mask(_geojson(tmp_path / "m.json", _polygon(SQUARE)), _image(crs=""))
    with pytest.raises(ConfigError, match="'EPSG:0' is no reference system"):
        _mask(_geojson(tmp_path / "m.json", _polygon(SQUARE)), crs="EPSG:0")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"type": "Topology"}', "no readable GeoJSON: there is no geometry of type 'Topology'"),
        (b'{"type": ', "no readable GeoJSON"),
        (b"name,x,y", "is no GeoJSON, GeoPackage or Shapefile"),
        (b'{"type": "Polygon", "coordinates": [[["a", 1]]]}', "damaged coordinates"),
    ],
)
def test_what_is_no_vector_file_is_refused(tmp_path, content, message):
    """The file is named, with what is wrong."""
    path = tmp_path / "m.geojson"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"m\.geojson: {message}"):
        _mask(str(path))


def test_other_kinds_of_images_and_of_masks_say_which_kind(tmp_path):
    """A volume takes no shapes, a missing file is missing, and `kind: raster` names the right kind."""
    volume = ArraySource(values=np.ones((1, 2, 3, 4)), space=volume_space((2, 3, 4)))
    path = _geojson(tmp_path / "m.geojson", _polygon(SQUARE), crs=IN_UTM)
    with pytest.raises(SourceError, match="shapes have no place in a volume"):
        _mask(path, volume)
    with pytest.raises(SourceError, match="mask file not found"):
        _mask(str(tmp_path / "absent.geojson"))
    with pytest.raises(ConfigError, match="write `kind: vector`"):
        open_masks([mask_options({"kind": "raster", "path": path})], _image(), lambda p: p)


def test_a_shape_claims_nodata(tmp_path):
    """What somebody drew is a hole where the image has nodata, too."""
    image = ArraySource(values=np.zeros((1, *SHAPE), np.uint8), space=raster_space(SHAPE, crs=UTM33), no_value=0)
    entry = mask_options({"kind": "vector", "path": _geojson(tmp_path / "m.json", _polygon(SQUARE), crs=IN_UTM)})
    states = open_masks([entry], image, lambda p: p, "drawn").read(Box.whole(SHAPE))[0]
    assert np.array_equal(states == 1, _expected())


def test_tiles_of_a_large_image_agree(tmp_path):
    """A polygon across the places where shapes are drawn piece by piece is whole."""
    ring = [[500005.0, 5099995.0], [513005.0, 5099990.0], [507777.0, 5088888.0], [500005.0, 5099995.0]]
    image = _image((1200, 1400))
    mask = _mask(_geojson(tmp_path / "m.json", _polygon(ring), crs=IN_UTM), image)
    whole = mask.read(Box.whole((1200, 1400)))
    transform = rasterio.Affine(10, 0, 500000, 0, -10, 5100000)
    at_once = rasterio.features.rasterize([_polygon(ring)], out_shape=(1200, 1400), transform=transform)
    assert (whole[0] != at_once).sum() <= 2
    for box in Box.whole((1200, 1400)).tiles((700, 333)):
        assert np.array_equal(mask.read(box), whole[box.at()])


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_geopackage_and_shapefile(tmp_path, suffix):
    """Read with the extra, brought from their own reference system; what belongs to a Shapefile is known."""
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    stored = shapely.to_wkb(np.array([shapely.Polygon(_degrees(SQUARE, "EPSG:3857"))]))
    path = tmp_path / f"m{suffix}"
    pyogrio.raw.write(path, stored, [], [], geometry_type="Polygon", crs="EPSG:3857")
    assert np.array_equal(_holes(str(path)), _expected())
    assert [Path(name).suffix for name in files_of(str(path))] == (
        [] if suffix == ".gpkg" else [".cpg", ".dbf", ".prj", ".shx"]
    )


def test_layers_are_named(tmp_path):
    """Of several layers one must be named."""
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    stored = shapely.to_wkb(np.array([shapely.Polygon(SQUARE)]))
    for layer in ("clouds", "lakes"):
        more = {"append": True} if layer == "lakes" else {}
        pyogrio.raw.write(tmp_path / "m.gpkg", stored, [], [], geometry_type="Polygon", crs=UTM33, layer=layer, **more)
    with pytest.raises(ConfigError, match=r"has 2 layers \(clouds, lakes\); name one"):
        _mask(str(tmp_path / "m.gpkg"))
    with pytest.raises(ConfigError, match="has no layer 'sea'"):
        _mask(str(tmp_path / "m.gpkg"), layer="sea")
    assert np.array_equal(_holes(str(tmp_path / "m.gpkg"), layer="lakes"), _expected())


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    """The message says what to install and what works without."""
    monkeypatch.setitem(__import__("sys").modules, "pyogrio", None)
    path = tmp_path / "m.gpkg"
    path.write_bytes(b"SQLite format 3\0")
    with pytest.raises(ConfigError, match=r"pip install 'inpaint-pipeline\[vector\]'; GeoJSON does not"):
        _mask(str(path))
