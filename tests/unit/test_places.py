"""Points in other reference systems: those without a place there cost the others neither their values nor time."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.warp
from rasterio.crs import CRS

from pipeline.geometry.places import moved_points


@pytest.mark.parametrize(
    ("source", "target", "reach"),
    [
        ("+proj=sinu +R=6371007.181", "EPSG:3857", 1.9e7),
        ("+proj=geos +h=35785831 +lon_0=0 +sweep=y", "EPSG:4326", 5.7e6),
        ("EPSG:6933", "EPSG:3035", 1.7e7),
    ],
)
def test_points_without_a_place(monkeypatch, source, target, reach):
    """Each point gets what it gets alone, in a few calls for all, whatever GDAL and PROJ report of it."""
    along = np.linspace(-reach, reach, 10)
    x, y = (axis.ravel() for axis in np.meshgrid(along, along))
    source, target = (CRS.from_user_input(text).to_wkt() for text in (source, target))
    alone = np.concatenate([moved_points(source, target, x[[k]], y[[k]]) for k in range(len(x))], axis=1)
    calls, transform = [], rasterio.warp.transform
    monkeypatch.setattr(rasterio.warp, "transform", lambda *given: calls.append(1) or transform(*given))
    together = moved_points(source, target, x, y)
    np.testing.assert_array_equal(together, alone)
    assert 0 < np.isnan(together[0]).sum() < len(x)
    assert len(calls) < 100


def test_systems_that_nothing_joins():
    """A system of its own has no place on earth."""
    own = CRS.from_wkt('LOCAL_CS["mine"]').to_wkt()
    with pytest.raises(ValueError, match="no operation leads"):
        moved_points(own, CRS.from_epsg(4326).to_wkt(), np.zeros(1), np.zeros(1))
