"""What this machine has: versions, drivers, GPU, cores, memory, disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline.system.bounds import cores, memory_bytes
from pipeline.system.facts import software
from pipeline.system.room import free_bytes


def machine_table() -> dict[str, Any]:
    """Return versions and resources of this machine."""
    import rasterio
    import torch

    return {
        **software(),
        "gdal": rasterio.__gdal_version__,
        "jp2_driver": "JP2OpenJPEG" in rasterio.drivers.raster_driver_extensions().values(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "cores": cores(),
        "memory_GiB": memory_bytes() / 2**30,
        "free_disk_GiB": "unknown" if (free := free_bytes(Path.cwd())) is None else free / 2**30,
        "slurm": shutil.which("sbatch") or "none",
    }
