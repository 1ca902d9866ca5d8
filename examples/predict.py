"""A trained model is one file: it predicts masks on the scan's own grid, and is scored."""

import fedmri

SMALL = ["data.prepare.size=[]", "data.prepare.shape=[16,16,16]", "data.prepare.spacing_mm=12"]

data = fedmri.example_data("example-data", sites=3, subjects=6, spacing_mm=8)
others = fedmri.example_data("other-data", sites=2, subjects=4, spacing_mm=8, seed=1)
settings = ["rounds.n_rounds=1", "simulation.arms=[federated]", "simulation.workers=1"]
study = fedmri.Study(
    data,
    target=fedmri.Segmentation("mask", ["lesion"]),
    model="unet",
    settings=[*SMALL, *settings, "model.width=4", "data.source.modalities=[FLAIR]"],
)
result = study.run()

model = fedmri.TrainedModel.open(result.folder / "arms/federated/seed-0/model.safetensors")
scan = sorted(others.glob("sub-*/anat/*_FLAIR.nii.gz"))[0]
made = model.predict(scan, out="predictions")
print(*made.files, sep="\n")

scored = model.score(others)
print({row.label: round(row.overall["dice"].value, 3) for row in scored.summary.rows})
