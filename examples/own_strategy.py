"""A strategy of your own: a frozen dataclass, whose fields are its settings."""

from dataclasses import dataclass

import fedmri

SMALL = ["experiment=smoke", "data.prepare.shape=[16,16,16]", "simulation.arms=[federated]"]


@dataclass(frozen=True)
class HalfStep(fedmri.FedAvg):
    """The server goes a part of the way from the last model to the hospitals' mean."""

    way: float = 0.5

    def aggregate(self, state, updates, out):
        """Return the state with a model between the last one and the mean."""
        new = super().aggregate(state, updates, out)
        for name in sorted(state.layout.parameters):
            new.model[name].copy_(state.model[name].lerp(new.model[name], self.way))
        return new


data = fedmri.example_data("example-data", sites=3, subjects=6, spacing_mm=8)
study = fedmri.Study(
    data,
    strategies=["fedavg", HalfStep(way=0.25)],
    settings=[*SMALL, "data.prepare.spacing_mm=12", "model.width=4"],
)
scores = study.run().table().query("metric == 'balanced_accuracy'")
print(scores[["model", "value", "low", "high"]].to_string(index=False))
