"""Three hospitals train one model together, beside each alone and all pooled."""

import fedmri

SMALL = ["experiment=smoke", "data.prepare.shape=[16,16,16]", "simulation.workers=1"]

data = fedmri.example_data("more-data", sites=3, subjects=12, spacing_mm=8)
study = fedmri.Study(
    data,
    target=fedmri.Classification("lesion", ["mass", "spots", "wedge"]),
    settings=[*SMALL, "data.prepare.spacing_mm=12", "model.width=4"],
)
result = study.run()

scores = result.table().query("metric == 'balanced_accuracy'")
print(scores[["model", "value", "low", "high", "n_subjects"]].to_string(index=False))
print(f"Report: {result.report}")
