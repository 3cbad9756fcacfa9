"""OmniCloudMask as a mask: classes become holes, nothing is fetched, and what is missing is said."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ConfigError, SourceError
from pipeline.geometry.box import Box
from pipeline.masks.base import ComposedMask, mask_options, open_masks
from pipeline.testing import ArraySource, raster_space, volume_space
from tests.helpers import command, layer, pixels, run_config, smooth, write_image
from tests.support_clouds import stand_in

BANDS = {"red": 1, "green": 2, "nir": "nir"}


def _image(step: float = 10.0) -> ArraySource:
    """Return a scene of 700 x 40 pixels with a cloud across the places where the network looks, a shadow and nodata."""
    values = np.full((3, 700, 40), 400, np.uint16)
    values[:, 500:530, 5:15] = 1000
    values[2, 540:560, 5:15] = 30
    values[:, :, :3] = 0
    return ArraySource(values=values, space=raster_space((700, 40), step), no_value=0, channel_names=("r", "g", "nir"))


def _open(image: ArraySource, **more: Any) -> ComposedMask:
    return open_masks([mask_options({"kind": "omnicloudmask", **BANDS, **more})], image, lambda p: p, "drawn")


def test_classes_become_holes(tmp_path, monkeypatch):
    """Cloud and shadow are holes, or what is asked for; nodata is never touched."""
    stand_in(tmp_path, monkeypatch)
    whole = Box.whole((700, 40))
    states = _open(_image()).read(whole)[0]
    assert (states[500:530, 5:15] == 1).all()
    assert (states[540:560, 5:15] == 1).all()
    assert (states[:, :3] == 2).all()
    assert (states == 1).sum() == 500
    assert (_open(_image(), classes=["cloud_shadow"]).read(whole)[0] == 1).sum() == 200


def test_weights_are_named_or_there_but_never_fetched(tmp_path, monkeypatch):
    """Without weights the folder is asked for; a folder without any is refused at once."""
    stand_in(tmp_path, monkeypatch, weights=False)
    with pytest.raises(SourceError, match=r"we are offline; name the folder with its weights as `weights`"):
        _open(_image()).read(Box.whole((700, 40)))
    with pytest.raises(ConfigError, match="holds no weights of OmniCloudMask"):
        _open(_image(), weights=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(bytes(2**20 + 1))
    assert (_open(_image(), weights=str(tmp_path)).read(Box.whole((700, 40))) == 1).any()


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    """The extra, the band, a raster, pixels of the right size."""
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "omnicloudmask", None)
        without.setattr("pipeline.masks.omnicloudmask.find_spec", lambda _: None)
        with pytest.raises(ConfigError, match=r"pip install 'inpaint-pipeline\[clouds\]'"):
            _open(_image())
    stand_in(tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match="no band 'swir'; it has 3: r, g, nir"):
        _open(_image(), red="swir")
    with pytest.raises(SourceError, match="is a volume, which has no clouds"):
        _open(replace(_image(), space=volume_space((2, 700, 40))))
    assert _open(_image()).notices == ()
    assert "has pixels of 250 m; OmniCloudMask was made for 5 to 50 m" in _open(_image(250.0)).notices[0]


def test_a_run_with_it(tmp_path, monkeypatch):
    """A scene without a mask: clouds are found, restored, and the weights stand in the record."""
    stand_in(tmp_path, monkeypatch)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(bytes(2**20 + 1))
    values = np.clip(smooth((3, 48, 50)), 0, 890)
    values[:, 20:28, 20:30] = 1500
    image = write_image(tmp_path / "image.tif", values)
    entry = {"kind": "omnicloudmask", "red": 1, "green": 2, "nir": 3, "weights": "weights"}
    outcome = command("run", run_config(tmp_path, image, None, mask=[entry]))
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "image"
    assert (pixels(layer(folder, "source"))[0] == 1).sum() == 80
    record = json.loads((folder / "record.json").read_text())
    (files,) = [mask["files"] for mask in record["masks"]]
    assert files[0]["bytes"] == 2**20 + 1
    assert not Path(files[0]["path"]).is_absolute()
