"""Arrays of a notebook as hospitals: one dict of images and targets for each."""

import numpy as np

import fedmri

SMALL = ["data.prepare.dimension=3d", "data.prepare.size=[]", "data.prepare.shape=[16,16,16]"]


def hospital(seed, gain):
    """Return eight heads of noise; every second one has a bright cube, which the mask marks."""
    random = np.random.default_rng(seed)
    image = random.normal(0, 1, (8, 24, 24, 24))
    image[:, 4:20, 4:20, 4:20] += 100 + random.normal(0, 10, (8, 16, 16, 16))
    mask = np.zeros(image.shape, dtype=np.uint8)
    mask[:, 8:12, 8:12, 8:12] = 1
    return {"image": gain * (image + 50 * mask), "target": mask}


sites = fedmri.Sites.from_arrays(
    {"North": hospital(0, gain=1.0), "South": hospital(1, gain=3.0)}, "arrays", target="mask"
)
study = fedmri.Study(
    sites,
    target=fedmri.Segmentation("mask", ["cube"]),
    model="unet",
    settings=[
        *SMALL,
        "data.source.modalities=[T1w]",
        "rounds.n_rounds=2",
        "simulation.arms=[federated]",
        "simulation.workers=1",
        "model.width=4",
    ],
)
dice = study.run().table().query("metric == 'dice'")
print(dice[["model", "value", "low", "high"]].to_string(index=False))
