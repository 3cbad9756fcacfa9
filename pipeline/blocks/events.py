"""What a run tells the outside while it goes on; subclasses print, draw a bar or collect."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.blocks.block import BlockResult
    from pipeline.plan.cost import Cost


STAGES = ("survey", "blocks", "files")
"""What is done to an image, one after the other."""


class Events:
    """Listener that ignores everything."""

    def image(self, stem: str, *, number: int, count: int) -> None:
        """The image `number` (from 1) of `count` begins."""

    def stage(self, stem: str, name: str) -> None:
        """A stage of an image begins: one of `STAGES`, or one that not every run has.

        `continue`: an earlier run had made the survey; `upload`: the results go to object storage; `cube`: the dates of
        a series are put together (`stem` is the name of the cube).
        """

    def expected(self, stem: str, cost: Cost, workers: int) -> None:
        """How long the image takes; told again, with what is left, whenever a stage of the survey is over."""

    def notice(self, stem: str, text: str) -> None:
        """Something the user should know; also stands in the record."""

    def blocks(self, stem: str, *, done: int, total: int) -> None:
        """The blocks of an image begin; `done` of them are committed from an earlier run."""

    def block_done(self, stem: str, result: BlockResult) -> None:
        """A block is committed."""

    def already_done(self, stem: str) -> None:
        """The image was finished by an earlier run with the same config."""

    def failed(self, stem: str, error: Exception) -> None:
        """An image of a batch failed; the others go on."""

    def close(self) -> None:
        """The run is over, one way or the other."""
