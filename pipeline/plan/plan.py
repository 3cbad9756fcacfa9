"""The plan: everything a block needs to know, decided before the first block runs. Immutable, hashed, a JSON file.

`key` hashes what the restored values depend on (input, config, weights); `digest` also covers how the work is cut
into blocks. Two plans with the same key must give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, ValidationError

from pipeline.errors import IntegrityError, OutputConflict
from pipeline.geometry.box import Box
from pipeline.geometry.lattice import Lattice
from pipeline.geometry.space import Space
from pipeline.models.base import AUTO, BFLOAT16
from pipeline.plan.refs import GuideRef, ModelRef, SourceRef
from pipeline.plan.workdir import WorkFolder
from pipeline.restore.recipe import Recipe
from pipeline.system.files import read_json, unsealed, write_sealed
from pipeline.system.redact import hidden_in, put_back, redacted_facts

PLAN_VERSION = 22
_SURVEY = "survey_facts_sha256"
"""Key of the hash of what the survey found beside the plan; in `plan.json` only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRow:
    """One block of a plan; in JSON a flat list `[*index, holes, patches]`."""

    index: tuple[int, ...]
    """Position in the grid of blocks."""
    holes: int
    """Its hole pixels, over all restored channels."""
    patches: int
    """Patches that run for it."""

    @classmethod
    def of(cls, row: Any) -> BlockRow:
        """Return the block of a flat list."""
        if isinstance(row, BlockRow):
            return row
        if not isinstance(row, list | tuple) or not all(type(number) is int for number in row):
            raise ValueError("a block is a list of whole numbers")
        *index, holes, patches = row
        return cls(index=tuple(index), holes=holes, patches=patches)

    @property
    def flat(self) -> list[int]:
        """The numbers as a flat list."""
        return [*self.index, self.holes, self.patches]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that `process_block` needs beside a block number.

    Attributes:
        workdir: folder with the survey's arrays, the block store and the journal.
        source: the image to restore.
        guides: references and auxiliaries, in the order of the recipe's weights.
        model: None if only classical methods are used.
        recipe: decisions of the self-test.
        space: grid of the image.
        channels: channels that are restored (an alpha band is not).
        empty: channels without any observed pixel; the published layers say of them that they were never touched.
        n_state: 1 if holes are the same in all of `channels`, else their number.
        doubted: observed pixels that are kept, but no evidence, over the `n_state` planes.
        hazy: observed pixels that are evidence once the haze or shadow over them is taken off, likewise.
        dtype: stored dtype of the image.
        nodata: value never written as an estimate, per restored channel.
        refused: value written where the uncertainty is above `refuse_above`, per restored channel.
        centre: subtracted before arithmetic in float32, per restored channel; 0 for dtypes float32 holds exactly.
        spread: robust range (p1 to p99 of observed values) per restored channel.
        refuse_above: fraction of `spread`; None = never refuse.
        lattice: patch lattice.
        spacing: step per axis for fills and distances (1 for rasters, mm for volumes).
        guess_factor: size of a cell of the survey's coarse fill in pixels; 1 = the exact base fill.
        beyond_cell: size of a cell of what the survey found beyond patches, pixels; 0 = they see all that counts.
        block: spatial extent of a block.
        batch: patches of a block that are prepared together before the network sees them.
        blocks: the blocks with holes.
        window: pixels of the largest window that a patch of a volume is estimated from; 0 = not known.
        seen: pixels of the largest part of one that a network looks at; 0 = not known.
        survey_sha256: hash of the survey's arrays.
        config: hash-relevant part of the resolved config.
    """

    version: int = PLAN_VERSION
    workdir: str
    source: SourceRef
    guides: tuple[GuideRef, ...] = ()
    model: ModelRef | None = None
    recipe: Recipe
    space: Space
    channels: tuple[int, ...]
    empty: tuple[int, ...] = ()
    n_state: int
    doubted: int = 0
    hazy: int = 0
    dtype: str
    nodata: tuple[int | float | None, ...]
    refused: tuple[int | float | None, ...]
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    refuse_above: float | None = None
    lattice: Lattice
    spacing: tuple[float, ...]
    guess_factor: int
    beyond_cell: int = 0
    block: tuple[int, ...]
    batch: int = 1
    blocks: tuple[Annotated[BlockRow, BeforeValidator(BlockRow.of), PlainSerializer(lambda row: row.flat)], ...] = ()
    window: int = 0
    seen: int = 0
    survey_sha256: str = ""
    config: dict[str, Any]

    @property
    def work(self) -> WorkFolder:
        """The work folder, with the names of what lies in it."""
        return WorkFolder(Path(self.workdir))

    @property
    def published(self) -> tuple[int, ...]:
        """Channels of the layers beside the restored image: those that are restored, and empty ones."""
        return tuple(sorted((*self.channels, *self.empty)))

    @property
    def ndim(self) -> int:
        """Spatial dimensions."""
        return self.space.ndim

    @property
    def in_bfloat16(self) -> bool:
        """Whether the network computes, or may compute as long as nothing is decided, in bfloat16."""
        return self.model is not None and not {AUTO, BFLOAT16}.isdisjoint(self.recipe.network_precision)

    @property
    def n_holes(self) -> int:
        """Hole pixels, counted over all restored channels."""
        return sum(block.holes for block in self.blocks)

    @property
    def forwards(self) -> int:
        """Patches computed in all, seams of blocks counted in every block that needs them."""
        return sum(block.patches for block in self.blocks)

    @cached_property
    def key(self) -> str:
        """Hash of what the result depends on."""
        # what a run publishes of its plan has no credentials, and must have the same key
        facts = redacted_facts(_json(replace(self, blocks=())))
        for name in ("workdir", "block", "batch", "blocks", "window", "seen"):
            facts.pop(name)
        facts["source"].pop("staged")
        if facts["model"]:
            facts["model"].pop("weights")
        for guide in facts["guides"]:
            guide["source"].pop("staged")
        return _hash(facts)

    @cached_property
    def digest(self) -> str:
        """Hash of the whole plan but for the folder it lives in."""
        rows = np.asarray([block.flat for block in self.blocks], dtype="<i8")
        facts = {"key": self.key, "block": self.block, "batch": self.batch}
        return _hash(facts | {"blocks": [*rows.shape, hashlib.sha256(rows.tobytes()).hexdigest()]})

    def block_box(self, block: int) -> Box:
        """Return the write box of block `block`, clipped to the image."""
        start = tuple(i * n for i, n in zip(self.blocks[block].index, self.block, strict=True))
        stop = tuple(a + n for a, n in zip(start, self.block, strict=True))
        return Box(start, stop) & Box.whole(self.space.shape)

    def read_box(self, box: Box) -> Box:
        """Return all pixels that patches touching `box` may see, clipped to the image."""
        reach = tuple(p - o // 4 for p, o in zip(self.lattice.patch, self.lattice.overlap, strict=True))
        return box.grow(reach) & Box.whole(self.space.shape)

    def save(self, survey: str = "") -> Path:
        """Write `plan.json` into the work folder, whole or not at all, and return its path.

        It is published with the results, so URLs stand in it without user, password and query. Those are kept in a
        file beside it that only its owner can read, and that goes when the run ends.

        Args:
            survey: hash of what the survey found beside it, see `plan.facts.save_survey`.
        """
        facts = _json(self)
        hidden = hidden_in(facts)
        if hidden:
            write_sealed(self.work.addresses, {"hidden": hidden}, private=True)
        else:
            self.work.addresses.unlink(missing_ok=True)
        write_sealed(self.work.plan, redacted_facts(facts) | {_SURVEY: survey})
        return self.work.plan


class OtherVersion(OutputConflict):
    """A plan was written by another version of the program, which alone can go on with it or compute it again."""

    def __init__(self, path: Path, found: object) -> None:
        super().__init__(
            f"{path} was written by another version of this program ({found}); use that version for it, or run with "
            "--overwrite to restore afresh"
        )


def load_plan(work: WorkFolder) -> Plan:
    """Read the plan of a work folder.

    Raises:
        OtherVersion: it was written by another version of the program.
        IntegrityError: it is gone, or damaged.
    """
    facts = read_json(work.plan)
    if facts is None:
        raise IntegrityError(f"{work.plan}: no such file")
    if facts.get("version") != PLAN_VERSION:
        raise OtherVersion(work.plan, f"plan version {facts.get('version')}, here {PLAN_VERSION}")
    facts = unsealed(work.plan, facts)
    facts.pop(_SURVEY, None)
    addresses = read_json(work.addresses)
    try:
        if addresses is not None:
            put_back(facts, unsealed(work.addresses, addresses)["hidden"])
        facts["workdir"] = str(work.path)
        for source in (facts["source"], *(guide["source"] for guide in facts["guides"])):
            source["staged"] = source["staged"] and str(work.staged)
        return _adapter().validate_python(facts)
    except (LookupError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{work.plan}: is damaged (it lacks what every plan has: {error})") from error
    except ValidationError as error:
        raise OtherVersion(work.plan, f"its {'.'.join(map(str, error.errors()[0]['loc']))} is unknown here") from None


def survey_named_by(work: WorkFolder) -> str:
    """Return the hash of the facts that the plan of a work folder was written with; empty without any."""
    return str((read_json(work.plan) or {}).get(_SURVEY, ""))


def patches_with_holes(lattice: Lattice, box: Box, hole: NDArray[np.bool_]) -> Iterator[tuple[int, ...]]:
    """Yield the patches whose weight is above 0 on a hole pixel of `box`, in lexicographic order.

    `hole` is `(n, *box.shape)`. A patch runs if and only if it is yielded, so at every hole pixel the weights of
    the patches that ran sum to exactly 1.
    """
    any_hole = np.asarray(hole.any(axis=0))
    for index in lattice.touching(box):
        part = lattice.support(index) & box
        if any_hole[part.within(box)].any():
            yield index


@cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


def _json(plan: Plan) -> dict[str, Any]:
    facts: dict[str, Any] = _adapter().dump_python(plan, mode="json")
    return facts


def _hash(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
