"""Three ways to combine the hospitals' models, under one budget and with intervals."""

import fedmri

SMALL = ["experiment=smoke", "data.prepare.shape=[16,16,16]", "simulation.workers=1"]

data = fedmri.example_data("more-data", sites=3, subjects=12, spacing_mm=8)
study = fedmri.Study(
    data,
    strategies=["fedavg", "fedprox", "fedadam"],
    settings=[
        *SMALL,
        "data.prepare.spacing_mm=12",
        "model.width=4",
        "simulation.arms=[federated]",
    ],
)
differences = study.run().differences()
print(differences[["model", "minus", "value", "low", "high", "shown"]].to_string(index=False))
