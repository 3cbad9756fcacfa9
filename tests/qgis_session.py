"""Opens rasters in QGIS, draws them, and prints what QGIS made of them as JSON: for the Python that QGIS comes with.

    python3 qgis_session.py FOLDER_FOR_PICTURES FILE...

Pictures have a pixel a pixel, named as the file, with `.png`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from qgis.core import (
    QgsApplication,
    QgsMapRendererCustomPainterJob,
    QgsMapSettings,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor, QImage, QPainter


def seen(path: Path, picture: Path) -> dict[str, Any]:
    """Open a raster as QGIS does when it is dropped into a map, draw it on magenta, and tell what there is."""
    layer = QgsRasterLayer(str(path), path.stem)
    if not layer.isValid():
        return {"valid": False, "error": layer.error().message()}
    said, loaded = layer.loadNamedStyle(str(path.with_suffix(".qml")))
    renderer, box = layer.renderer(), layer.extent()
    image = QImage(QSize(layer.width(), layer.height()), QImage.Format_ARGB32)
    image.fill(QColor(255, 0, 255))
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(box)
    settings.setOutputSize(image.size())
    settings.setBackgroundColor(QColor(255, 0, 255))
    painter = QPainter(image)
    job = QgsMapRendererCustomPainterJob(settings, painter)
    job.renderSynchronously()
    painter.end()
    image.save(str(picture))
    classes = renderer.classes() if renderer.type() == "paletted" else []
    return {
        "valid": True,
        "style": [loaded, said],
        "errors": [error.message for error in job.errors()],
        "crs": layer.crs().authid(),
        "extent": [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()],
        "renderer": renderer.type(),
        "bands": list(renderer.usesBands()),
        "names": [layer.bandName(band) for band in range(1, layer.bandCount() + 1)],
        "legend": [[label, colour.name()] for label, colour in renderer.legendSymbologyItems()],
        "classes": {str(int(one.value)): [one.label, one.color.name(), one.color.alpha()] for one in classes},
    }


if __name__ == "__main__":
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    pictures = Path(sys.argv[1])
    found = {name: seen(Path(name), pictures / f"{Path(name).stem}.png") for name in sys.argv[2:]}
    sys.stdout.write(json.dumps(found))
    sys.stdout.flush()
    # its libraries may fall over one another when they are taken down
    os._exit(0)
