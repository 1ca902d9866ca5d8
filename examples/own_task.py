"""A task of your own: a frozen dataclass; here the age that nine of ten are below."""

from dataclasses import dataclass

import torch

import fedmri

SMALL = ["experiment=age", "data.prepare.shape=[16,16,16]", "simulation.arms=[federated]"]


@dataclass(frozen=True)
class Quantile(fedmri.Regression):
    """A regression whose answer is a quantile, and not the middle."""

    share: float = 0.9
    title = "quantile regression"
    claims = fedmri.Regression.claims  # a patient's loss depends on no other patient

    def mean_loss(self, outputs, target):
        """Return the mean pinball loss: what lies above costs more."""
        above = (target - self.centre) / self.scale - outputs.float()[:, 0]
        return torch.maximum(self.share * above, (self.share - 1) * above).mean()


data = fedmri.example_data("example-data", sites=3, subjects=6, spacing_mm=8)
for share in (0.1, 0.9):
    study = fedmri.Study(
        data,
        target=Quantile("age", share=share, centre=50, scale=20),
        settings=[*SMALL, "data.prepare.spacing_mm=12", "rounds.n_rounds=10", "train.lr=0.01"],
    )
    model = study.run().model()
    ages = [one.reading.predictions[0][0] for one in model.predict(data)]
    print(f"share {share}: age {sum(ages) / len(ages):.1f} on average")
