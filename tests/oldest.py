"""Print the oldest versions that pyproject.toml allows, as requirements of pip: `python -m tests.oldest > FILE`.

PyTorch and MONAI are left out: old ones come without a build for processors alone, gigabytes large.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

LEFT_OUT = {"torch", "monai"}
EXTRAS = ("slurm", "vector")
"""Those whose packages the tests of `make oldest` use."""


def oldest(project: Path) -> list[str]:
    """Return `name==version` of every direct dependency."""
    said = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    texts = [*said["dependencies"], *(text for extra in EXTRAS for text in said["optional-dependencies"][extra])]
    found = []
    for requirement in map(Requirement, texts):
        (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
        if requirement.name not in LEFT_OUT:
            found.append(f"{requirement.name}=={bound}")
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(oldest(Path("pyproject.toml"))) + "\n")
