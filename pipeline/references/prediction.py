"""What a relation makes of a reference, and what the observed pixels around say beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.beyond import handed_over, pixels_away, share_seen
from pipeline.references.align import aligned
from pipeline.references.context import BLURS, context
from pipeline.references.relation import Relation
from pipeline.references.ridge import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What the observed pixels around say beside a relation.

    Attributes:
        values: to be added to the prediction, `(c, *spatial)`, data units.
        ratio: squared misfit over the local variance, for a misfit of 1 that the relation expects, `(c, *spatial)`.
        to_cut: distance to the nearest pixel beyond the window that is inside the image, in pixels, `(*spatial)`.
    """

    values: NDArray[np.floating]
    ratio: NDArray[np.floating]
    to_cut: NDArray[np.float32]

    def some(self, channels: list[int]) -> Correction:
        """Return that of some channels."""
        return replace(self, values=self.values[channels], ratio=self.ratio[channels])

    def over(
        self,
        values: Field,
        ratio: Field,
        predicted: tuple[Field, Field],
        common: NDArray[np.bool_],
        asked: NDArray[np.bool_],
    ) -> tuple[Field, Field]:
        """Return estimate and ratio: a window's own where it shows what is around, else the prediction with this.

        Args:
            values: the window's own estimate at the pixels asked for, `(c, n)`.
            ratio: its squared misfit over the local variance there.
            predicted: prediction and expected squared misfit there.
            common: bool `(*spatial)`, pixels observed in both.
            asked: bool `(*spatial)`.
        """
        seen = share_seen(pixels_away(common), self.to_cut)[asked]
        said, misfit = predicted
        level = handed_over(np.log(np.maximum(ratio, 1e-30)), np.log(self.ratio[:, asked] * misfit), seen)
        far = said + self.values[:, asked]
        return handed_over(values, far, seen).astype(np.float64), np.exp(level.astype(np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a relation makes of a reference in a window, whatever is hidden of the image there.

    Attributes:
        seen: bool `spatial`, pixels that the reference sees.
        values: float64 `(c, *spatial)`, the predicted image.
        misfit: float64 `(c, *spatial)`, the expected squared misfit.
        guides: bands of the image, and the principal components of the reference for them, float32 `(q, *spatial)`.
        beyond: what the whole image says beside it where a window does not show what is around; None = windows do.
    """

    seen: NDArray[np.bool_]
    values: Field
    misfit: Field
    guides: tuple[tuple[tuple[int, ...], NDArray[np.float32]], ...]
    beyond: Correction | None = None

    def some(self, channels: list[int]) -> tuple[Field, Field]:
        """Return prediction and expected squared misfit of some channels."""
        return self.values[channels], self.misfit[channels]

    @classmethod
    def on_cells(cls, relation: Relation, reference: NDArray[np.float32], seen: NDArray[np.bool_]) -> Prediction:
        """Predict means of cells: they are as smooth as what is around a pixel is blurred.

        Args:
            relation: as in `reference_fill`.
            reference: means of the reference, float32 `(c_ref, *cells)`, at its place.
            seen: bool `cells`, where it has any.
        """
        clean = np.where(seen, reference, np.float32(0))
        values, misfit = relation.predict(np.concatenate([clean] * (1 + len(BLURS))))
        bands = tuple(range(len(values)))
        return cls(seen=seen, values=values, misfit=misfit, guides=((bands, relation.guide(clean)),))

    @classmethod
    def of(
        cls,
        relation: Relation,
        reference: NDArray[np.float32],
        reference_valid: NDArray[np.bool_],
        spacing: Sequence[float],
    ) -> Prediction:
        """Predict a window from a reference and its validity, as in `reference_fill`."""
        reference, seen = aligned(reference, seen_by(reference, reference_valid), relation.offset)
        views = list(relation.views(reference, seen))
        said = [relation.predict(context(view, seen, spacing)) for _, view in views]
        values, misfit = said[0]
        if len(views) > 1:
            values, misfit = np.empty_like(values), np.empty_like(misfit)
            for (bands, _), (own, expected) in zip(views, said, strict=True):
                values[bands], misfit[bands] = own[bands], expected[bands]
        guides = tuple((tuple(bands), relation.guide(view)) for bands, view in views)
        return cls(seen=seen, values=values, misfit=misfit, guides=guides)


def seen_by(reference: NDArray[np.float32], reference_valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels `(*spatial)` of which a reference shows all bands."""
    return np.asarray(np.all(reference_valid, axis=0) & np.isfinite(reference).all(axis=0))
