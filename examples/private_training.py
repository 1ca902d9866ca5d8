"""What privacy of patients costs, and training with the noise that was planned."""

import fedmri

SMALL = ["experiment=smoke", "data.prepare.shape=[16,16,16]", "simulation.arms=[federated]"]

plan = fedmri.privacy_plan(patients=4, rounds=2, epsilon=8, batch=2, steps=2)
print(plan.table().to_string(index=False))
print("Settings:", *plan.settings)

data = fedmri.example_data("example-data", sites=3, subjects=6, spacing_mm=8)
private = ["train.local_steps=2", "simulation.workers=1", *plan.settings]
study = fedmri.Study(
    data, settings=[*SMALL, "data.prepare.spacing_mm=12", "model.width=4", *private]
)
result = study.run()
print(f"The report says what each hospital has spent: {result.report}")

site = fedmri.site_privacy_plan(sites=3, rounds=2, dimensions=100)
print(site.table().round(1).to_string(index=False))
