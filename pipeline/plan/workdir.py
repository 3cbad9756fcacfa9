"""The work folder of one image: the name of everything that lies in it, in one place.

While a run goes on it is `<output.directory>/.work/<stem>` or, with `compute.scratch`, the same below that folder. When
the results are published, what `verify` needs of it comes along as `<stem>/.work`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class WorkFolder:
    """Where the run of one image works, and what `verify` reads afterwards."""

    path: Path

    NAME: ClassVar[str] = ".work"

    @classmethod
    def running(cls, directory: Path, stem: str) -> WorkFolder:
        """Return where the run of an image works below the output folder or the scratch folder."""
        return cls(directory / cls.NAME / stem)

    @classmethod
    def of(cls, folder: Path) -> WorkFolder:
        """Return what is kept beside the finished results in `folder`."""
        return cls(folder / cls.NAME)

    @property
    def kept(self) -> tuple[Path, ...]:
        """What is published with the results, so that `verify` can compute pixels again, and `report` draw."""
        return (
            self.request,
            self.plan,
            self.survey,
            self.samples,
            self.state,
            self.haze,
            self.coarse,
            self.beyond,
            self.journal,
        )

    @property
    def own(self) -> tuple[Path, ...]:
        """Everything that a run may leave here; nothing else is ever removed."""
        unfinished = (
            self.addresses,
            self.jobs,
            self.parcels,
            self.staged,
            self.blocks,
            partial(self.blocks),
            self.seams,
            self.ready,
            self.publishing,
            self.dataset,
            self.elsewhere,
        )
        return (*self.kept, *unfinished, self.path / "state-1.zarr")

    @property
    def lock(self) -> Path:
        """Held by the run that works here."""
        return self.path / "lock"

    @property
    def request(self) -> Path:
        """Hash of config and input bytes that the folder belongs to."""
        return self.path / "request"

    @property
    def plan(self) -> Path:
        """The plan, JSON."""
        return self.path / "plan.json"

    @property
    def addresses(self) -> Path:
        """URLs of the plan with user, password and query, JSON; for the owner only, and never published."""
        return self.path / "addresses.json"

    @property
    def survey(self) -> Path:
        """What the record needs of the survey beside the plan, JSON."""
        return self.path / "survey.json"

    @property
    def fetched(self) -> Path:
        """Copies of what lies in object storage, `<mark of the content>/<bucket>/<key>`; kept until the end."""
        return self.path / "s3"

    @property
    def lease(self) -> Path:
        """Tells this run that a lock in object storage is its own; kept until it is finished."""
        return self.path / "lease"

    @property
    def samples(self) -> Path:
        """What the self-test keeps for the report: windows and hidden pixels, NumPy's npz; nothing depends on it."""
        return self.path / "samples.npz"

    @property
    def staged(self) -> Path:
        """Copies of inputs that are cheap to read (compressed volumes, inflated)."""
        return self.path / "staged"

    @property
    def state(self) -> Path:
        """Zarr array uint8 `(n_state, *spatial)`: KEEP, FILL, NEVER, DOUBT or HAZY for each pixel."""
        return self.path / "state.zarr"

    @property
    def haze(self) -> Path:
        """Zarr array float32 `(k, *spatial)`: amounts of what is taken off hazy pixels, one of haze or of each scrap.

        Attribute `spectrum`: what amounts of 1 add to the bands, `(k, c)`; `left`: standard errors that they leave;
        `scraps`: they are scraps of cloud and shadow.
        It is there only if pixels are HAZY.
        """
        return self.path / "haze.zarr"

    @property
    def coarse(self) -> Path:
        """Zarr array float32 `(c, *cells)`: the coarse fill of the whole image, centred values, 0 where observed."""
        return self.path / "guess.zarr"

    @property
    def beyond(self) -> Path:
        """Zarr array float32 `(n, *cells)`: what patches cannot see of the image, see `image.beyond.read_beyond`.

        It is there only if holes are so wide that they do not see all.
        """
        return self.path / "beyond.zarr"

    @property
    def blocks(self) -> Path:
        """Zarr arrays with the finished blocks of each layer."""
        return self.path / "blocks.zarr"

    @property
    def seams(self) -> Path:
        """Folder of estimates that blocks leave for their neighbours; gone when all blocks are done."""
        return self.path / "seams"

    @property
    def journal(self) -> Path:
        """Folder of the lines that make blocks count as done."""
        return self.path / "journal"

    @property
    def ready(self) -> Path:
        """Finished files before they get their final names."""
        return self.path / "ready"

    @property
    def jobs(self) -> Path:
        """Logs and credentials of jobs, for the owner only."""
        return self.path / "jobs"

    @property
    def parcels(self) -> Path:
        """Arrays on the way to workers that compute windows of the self-test; gone before the first block."""
        return self.path / "parcels"

    @property
    def publishing(self) -> Path:
        """Says that `ready` is complete and checked, and what it replaces; from then on a run can only go forward."""
        return self.path / "publishing.json"

    @property
    def dataset(self) -> Path:
        """What is made of published results for a data set of derivatives, before it goes there."""
        return self.path / "dataset"

    @property
    def elsewhere(self) -> Path:
        """Beside the results, while a run works in a scratch folder: the path of that work folder, one line."""
        return self.path / "elsewhere"

    @property
    def exchange(self) -> Path:
        """The new results before they take the place of old ones, the old ones after that."""
        return self.path / "exchange"

    @property
    def aside(self) -> Path:
        """The old results for the moment in which the new ones take their place, where that takes two steps."""
        return self.path / "aside"

    def layer(self, name: str) -> Path:
        """Return the array of one layer of the finished blocks."""
        return self.blocks / name


def working(beside: WorkFolder) -> WorkFolder:
    """Return where the run works that has this work folder beside its results: there, or in a scratch folder."""
    try:
        path = beside.elsewhere.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return beside
    # what is removed there must be what a run has made
    return WorkFolder(Path(path)) if Path(path).parts[-2:] == beside.path.parts[-2:] else beside


_FETCHED = re.compile(rf"/{re.escape(WorkFolder.NAME)}/[^/]+/s3/[0-9a-f]{{16}}/(.+)")


def fetched_from(path: str) -> str | None:
    """Return the address in object storage that a file is a copy of, None if it is none.

    >>> fetched_from("/out/.work/a/s3/0123456789abcdef/bucket/folder/a.tif")
    's3://bucket/folder/a.tif'
    """
    found = _FETCHED.search(path)
    return f"s3://{found[1]}" if found else None


def partial(path: Path) -> Path:
    """Return the name of a file or folder that is not complete yet, or not any more."""
    return path.with_name(path.name + ".partial")
