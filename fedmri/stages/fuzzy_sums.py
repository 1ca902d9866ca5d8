"""Fuzzy c-means by sums over sites, from the centres of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmri.harmonize.sums import Arrays
from fedmri.stages.on_images import refuse_other

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from fedmri.harmonize.embeddings.embedding_stage import Embeddings

CENTRES, MOMENT, WEIGHT = "centres", "moment", "weight"


@dataclass(frozen=True)
class FuzzyCentres:
    """Fuzzy c-means as a ``SumStage``; see ``fedmri.harmonize.sums``.

    Attributes:
        start: Centres of the model, shape ``(K, F)``.
        fuzziness: Exponent of memberships.
        n_steps: Steps.
    """

    start: NDArray[np.float64]
    fuzziness: float
    n_steps: int

    def site_sums(self, step: int, data: Embeddings | tuple[()], shared: Arrays) -> Arrays:
        """Return each cluster's sum of weighed points ``(K, F)``, and its weight ``(K,)``."""
        import torch

        from fedmri.models.layers.fuzzy import fuzzy_sums

        centres = torch.from_numpy(self._before(shared))
        points = (
            torch.zeros(0, centres.shape[1]).double() if isinstance(data, tuple) else data.values
        )
        moment, weight = fuzzy_sums(points, centres, self.fuzziness)
        return {MOMENT: moment.numpy(), WEIGHT: weight.numpy()}

    def combine(self, step: int, total: Arrays, shared: Arrays) -> Arrays:
        """Return the centres after the step; a cluster without points keeps its own."""
        import torch

        from fedmri.models.layers.fuzzy import fuzzy_centres

        moment, weight = (torch.tensor(total[name]) for name in (MOMENT, WEIGHT))
        return {
            CENTRES: fuzzy_centres((moment, weight), torch.tensor(self._before(shared))).numpy()
        }

    def nearest(self, data: Embeddings, shared: Arrays) -> torch.Tensor:
        """Return the cluster that each point belongs to most, shape ``(n,)``."""
        import torch

        from fedmri.models.layers.fuzzy import memberships

        centres = torch.from_numpy(self._before(shared))
        return memberships(data.values, centres, self.fuzziness).argmax(1)

    def _before(self, shared: Arrays) -> NDArray[np.float64]:
        centres = shared.get(CENTRES, self.start)
        refuse_other({CENTRES: centres}, {CENTRES: self.start.shape})
        return centres.copy()
