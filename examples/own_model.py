"""A network of your own: a function that makes one, or a part with settings and claims."""

from dataclasses import dataclass

from torch import nn

import fedmri

SMALL = ["experiment=smoke", "data.prepare.shape=[16,16,16]", "simulation.arms=[federated]"]


def brightness(sizes):
    """Return one linear layer on the mean of each channel."""
    layers = nn.AdaptiveAvgPool3d(1), nn.Flatten(1)
    return nn.Sequential(*layers, nn.Linear(sizes.n_channels, sizes.n_outputs))


@dataclass(frozen=True)
class Pooled:
    """The same on blocks of the image."""

    side: int = 2
    kinds = ("image",)  # one answer an image
    multiple = 1
    claims = frozenset({fedmri.Claim.PATIENTS_APART})  # so that privacy of patients may use it

    def build(self, sizes):
        """Return the network."""
        width = sizes.n_channels * self.side**3
        layers = nn.AdaptiveAvgPool3d(self.side), nn.Flatten(1)
        return nn.Sequential(*layers, nn.Linear(width, sizes.n_outputs))


data = fedmri.example_data("example-data", sites=3, subjects=6, spacing_mm=8)
for model in (brightness, Pooled(side=3)):
    settings = [*SMALL, "data.prepare.spacing_mm=12"]
    network = fedmri.Study(data, model=model, settings=settings).run().model().network
    n_weights = sum(weight.numel() for weight in network.parameters())
    print(f"A network of {n_weights} weights was trained at three hospitals.")
