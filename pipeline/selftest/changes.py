"""What the network does to the hidden pixels at any weights: what no weight changes is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.numerics.situation import FAMILIES, Recurring
from pipeline.restore.network import share_at
from pipeline.restore.recipe import Recipe
from pipeline.selftest.drafts import Drafts
from pipeline.selftest.scores import family_scores, harmed, wide_holes
from pipeline.selftest.site import channel_scale, unit_of
from pipeline.selftest.trial import Proposal, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Hidden pixels of all trials, `n` in all, with what the network would add."""

    proposals: Sequence[Proposal]
    """What it would have, steps limited, one for each trial."""
    drafts: Drafts
    """Their kind."""
    place: Recurring
    """Distance and family of the hidden pixels."""
    trust: NDArray[np.float32]
    """`(n,)` in [0, 1], how far references carry the mean."""
    before: NDArray[np.float32]
    """`(n,)`, error without the network, data units."""
    step: NDArray[np.float32]
    """`(n,)`, what it would add at weight 1, as far as the pixel counts, data units."""
    scale: NDArray[np.float64]
    """`(n,)`, typical error of the channel, data units."""
    holes: NDArray[np.intp]
    """`(n,)`, see `wide_holes`."""

    @classmethod
    def of(cls, proposals: Sequence[Proposal], drafts: Drafts) -> Change:
        """Gather what the network would have instead of drafts of one kind, one proposal for each trial."""
        trials = [one.trial for one in proposals]
        before = np.concatenate([trial.error for trial in trials])
        return cls(
            proposals=proposals,
            drafts=drafts,
            place=Recurring.of_many([trial.hidden_place for trial in trials]),
            trust=np.concatenate([trial.hidden(trial.draft.trust) for trial in trials]),
            before=before,
            step=np.concatenate([one.step for one in proposals]),
            scale=channel_scale(trials, before),
            holes=wide_holes(trials),
        )

    @property
    def trials(self) -> list[Trial]:
        """Return what has been made of the hidden pixels so far."""
        return [one.trial for one in self.proposals]

    @property
    def volume(self) -> bool:
        """Say whether the image is a volume."""
        return self.proposals[0].trial.placement.hidden.ndim == 4

    @property
    def pieces(self) -> int:
        """Return how many pieces of image hold wide pseudo-holes."""
        return int(np.unique(unit_of(self.trials)[self.holes > 0]).size)

    def after(self, recipe: Recipe) -> NDArray[np.float32]:
        """Return the errors with the network at the weights of a recipe, `(n,)`, data units."""
        share = self.drafts.counted_at(self.trust, share_at(recipe, self.place, self.trust))
        return np.asarray(self.before + share * self.step)

    def gain_db(self, recipe: Recipe) -> float:
        """Return what the network gains over all hidden pixels, dB."""
        squares = [float(((error / self.scale) ** 2).mean()) for error in (self.before, self.after(recipe))]
        return float(10 * np.log10(max(squares[0], 1e-30) / max(squares[1], 1e-30)))

    def family_gains(self, recipe: Recipe) -> dict[str, float]:
        """Return what it gains over each family of holes of which enough is hidden, dB."""
        scores = family_scores(self.trials, self.before, self.after(recipe), (1.0,) * len(FAMILIES))
        return {score.family: score.gain_db for score in scores}

    def harmed(self, recipe: Recipe) -> float:
        """Return the share of the wide pseudo-holes that it makes worse, see `scores.harmed`."""
        return harmed(self.holes, self.before, self.after(recipe))
