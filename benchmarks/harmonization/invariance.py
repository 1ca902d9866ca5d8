"""Learned invariance on made data: is the site still told from embeddings, and what of the task?

Five made hospitals image heads of 16 voxels a side with a bright or a dark lesion; their scanners
differ in contrast, sharpness and noise, and bright lesions get rarer from one to the next. Each is
left out in turn; the model of all hospitals gives the embeddings that are probed.

    python benchmarks/harmonization/invariance.py FOLDER n_subjects n_rounds [METHOD ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from fedmri.config import as_yaml, load
from fedmri.data.batches.examples import open_site
from fedmri.harmonize.judging.decodability import Decodability, ProbeSettings, Samples, decodability
from fedmri.models.build import build_network
from fedmri.models.weights import layout, load_weights
from fedmri.plan import Plan
from fedmri.server.rounds.checkpoint import load_weights_file
from fedmri.simulation.study import Study, run_study
from fedmri.stages.account import NothingLeaves
from fedmri.stages.on_embeddings import embeddings_at
from fedmri.stages.stage import AtSite

METHODS = {
    "none": ["harmonize=none"],
    "nyul": ["harmonize=nyul"],
    "coral": ["harmonize=coral"],
    "coral-marginal": ["harmonize=coral", "stages.coral.is_by_class=false"],
    "combat": ["harmonize=combat"],
    "fedharmony": ["harmonize=fedharmony", "strategy=fedprox", "strategy.weighting=uniform"],
}
SEED = 0
SCANNERS = (
    (1.0, 0.3, 0.02),
    (0.6, 0.5, 0.05),
    (1.6, 0.4, 0.03),
    (0.8, 0.8, 0.08),
    (2.2, 0.3, 0.04),
)
"""Exponent of intensities, blur in voxels, noise; one a hospital."""


def main() -> None:
    """Train each method, print a line of what came of it."""
    folder, n_subjects, n_rounds = Path(sys.argv[1]), *map(int, sys.argv[2:4])
    data = folder / "hospitals"
    if not data.exists():
        make_hospitals(data, n_subjects)
    for name in sys.argv[4:] or METHODS:
        run = folder / name
        plan = trained(run, data, n_rounds, METHODS[name.split("@")[0]] + _strength(name))
        found = probed(run, plan)
        print(
            f"{name}: site {found.accuracy:.3f} (p {found.p_value:.3f}, "
            f"largest {found.largest_share:.3f}); {scores(run)}",
            flush=True,
        )


def make_hospitals(folder: Path, n_subjects: int) -> None:
    """Write a BIDS folder: scanners with an exponent, a blur and a noise; prevalence 0.8 to 0.2."""
    rng = np.random.default_rng(SEED)
    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.9.0"}')
    rows = ["participant_id\tsite\tlesion"]
    where = np.indices((16, 16, 16)) - 7.5
    distance = np.sqrt((where**2).sum(axis=0))
    for k, (exponent, blur, noise) in enumerate(SCANNERS):
        for n in range(n_subjects):
            name, is_bright = f"sub-{k}{n:03d}", rng.random() < 0.8 - 0.15 * k
            radius, at = rng.uniform(6, 7.5), rng.uniform(-2.5, 2.5, (3, 1, 1, 1))
            lesion = np.sqrt(((where - at) ** 2).sum(axis=0)) < rng.uniform(2, 3)
            tissue = np.where(distance < 0.6 * radius, 0.6, 0.4) * (distance < radius)
            tissue = np.where(lesion, 0.9 if is_bright else 0.2, tissue)
            image = gaussian_filter(tissue**exponent, blur) + noise * rng.standard_normal((16,) * 3)
            image = np.where(distance < radius, image, 0).astype(np.float32)
            path = folder / name / "anat" / f"{name}_T1w.nii.gz"
            path.parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(image, np.eye(4)), path)
            rows.append(f"{name}\thospital{k}\t{'bright' if is_bright else 'dark'}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")


def _strength(name: str) -> list[str]:
    _, _, strength = name.partition("@")
    return [f"stages.coral.strength={strength}"] if strength else []


def trained(run: Path, data: Path, n_rounds: int, more: list[str]) -> Plan:
    """Run the study of a method, or what is left of it; return its plan."""
    fixed = [
        *("experiment=smoke", "target.classes=[bright,dark]", f"data.source.path={data}"),
        *("data.prepare.spacing_mm=1", "data.prepare.shape=[16,16,16]", "model.width=8"),
        *("model.norm=group", "train.batch_size=8", "train.lr=0.005"),
        *("rounds.evaluate_every=0", f"rounds.n_rounds={n_rounds}", f"seed={SEED}"),
        *("simulation.arms=[federated]", "simulation.protocol=loso", "simulation.workers=1"),
        *("simulation.n_pictures=0", f"simulation.cache={data.parent / 'cache'}"),
    ]
    experiment = load([*fixed, *more])
    run.mkdir(exist_ok=True)
    (run / "config.yaml").write_text(as_yaml(experiment), encoding="utf-8")
    study = Study(experiment.plan, experiment.partition, experiment.simulation, run, "")
    run_study(study, lambda _: None)
    return experiment.plan


def probed(run: Path, plan: Plan) -> Decodability:
    """Return how well the site is told from embeddings of the federated model, all patients."""
    network = build_network(plan.model, **plan.network)
    model, _ = load_weights_file(run / "arms/federated" / f"seed-{SEED}" / "model.safetensors")
    load_weights(network, model)
    rows: dict[str, list[np.ndarray]] = {"values": [], "sites": [], "subjects": []}
    for file in sorted((run / "prepared").glob("hospital?.json")):
        site = open_site([file], plan.target, plan.data)
        at = AtSite(file.stem, plan, site, NothingLeaves(), 0, network, layout(network))
        for split in ("train", "val", "test"):
            found = embeddings_at(at, split)
            rows["values"].append(found.values.numpy())
            examples = site.examples(split)
            rows["sites"].append(np.array([e.site for e in examples]))
            rows["subjects"].append(np.array([f"{e.site} {e.subject}" for e in examples]))
    arrays = {name: np.concatenate(parts) for name, parts in rows.items()}
    given = np.zeros((len(arrays["sites"]), 0))
    samples = Samples(arrays["values"], arrays["sites"], arrays["subjects"], given)
    return decodability(samples, ProbeSettings(n_permutations=100, seed=SEED))


def scores(run: Path) -> str:
    """Return the metric at hospitals that took part, and at those left out."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    said = []
    for label, start in (("took part", "federated"), ("left out", "loso:")):
        found = [
            (r["metrics"]["accuracy"], r["n_subjects"])
            for r in lines
            if r["kind"] == "test" and r["status"] == "ok" and r["arm"].startswith(start)
        ]
        mean = np.average([v for v, _ in found], weights=[n for _, n in found])
        said.append(f"accuracy where it {label} {mean:.3f} ({sum(n for _, n in found)} patients)")
    return "; ".join(said)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
