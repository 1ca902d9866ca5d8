"""Every model for a few rounds on real data: its score beside no image, its size, time and memory.

    python benchmarks/training/zoo.py FOLDER IMAGES MASKS VOLUMES [MODEL ...]

IMAGES is a folder as ``experiment=tumour_kind`` takes it, MASKS one as ``experiment=lgg_tumour``
does, and VOLUMES one as ``experiment=brain_age`` does: for models that want volumes or a table.
Models are as narrow as they can be, on images of 64 x 64 or volumes of 8 mm: this is a test that
each of them learns, and what it costs, and no contest. A round is an epoch, and 30 steps of
volumes. Each model has a process of its own, whose peak of memory is measured. A row is written as
soon as it is known; a second call goes on. None of these folders has visits, so ``visit_rnn`` is
left out.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import fedmri
from fedmri.claims import Need
from fedmri.models.registry import MODELS, model_names
from fedmri.reports.pages.page import WATTS_OF_A_CORE
from tests.made import n_dims_of, narrow

N_ROUNDS = 8
MEASURE = "--measure"
KINDS = {
    "images": ("experiment=tumour_kind", "balanced_accuracy"),
    "masks": ("experiment=lgg_tumour", "dice"),
    "volumes": ("experiment=brain_age", "mae"),
}
ALIKE = ("partition=iid", "partition.n_sites=3")
SIZES = {
    "images": (
        *("strategy=fedavg", "train.local_steps=0", "train.lr=0.002"),  # rounds of an epoch
        *("data.check.duplicates=exclude", *ALIKE),
    ),
    "masks": ("data.prepare.size=[64,64]",),
    "volumes": (
        *("data.prepare.spacing_mm=8", "data.prepare.shape=[24,32,24]", *ALIKE),
        *("train.local_steps=30", "train.lr=0.002"),  # an epoch would be two or three steps
    ),
}
LONGER = ("rounds.n_rounds=24", "rounds.evaluate_every=24")  # what goes over slices learns slowly
OWN_SIZES = {
    "densenet121_transformer": (
        *LONGER,
        "data.prepare.shape=[32,32,24]",  # five poolings of a slice
        "train.lr=0.001",
        "model.norm=group",  # with batch norm its mean over hospitals does not learn here
    ),
    "cnn_rnn": LONGER,
}
COLUMNS = (
    *("model", "metric", "score", "no_image", "linear", "parameters", "s_a_round", "mb_a_round"),
    *("mb", "watt_hours"),
)


def _has_data(name: str) -> bool:
    """Whether one of the folders can teach a model: none has several visits of a patient."""
    return Need.VISITS not in getattr(MODELS.load(name), "needs", ())


def kind_of(name: str) -> str:
    """Return what a model is tried on."""
    if name in model_names("voxel"):
        return "masks"
    wants_row = Need.COVARIATES in getattr(MODELS.load(name), "needs", ())
    return "volumes" if wants_row or n_dims_of(name) == (3,) else "images"


def main() -> None:
    """Measure the models that have no row yet, and print the table."""
    folder, images, masks, volumes, *names = sys.argv[1:]
    places = {"images": images, "masks": masks, "volumes": volumes}
    rows = Path(folder) / "zoo.jsonl"
    rows.parent.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["model"] for line in _lines(rows)}
    for name in names or filter(_has_data, MODELS.own):
        if name not in done:
            data = places[kind_of(name)]
            command = [sys.executable, __file__, MEASURE, name, data, folder]
            if subprocess.run(command, check=False).returncode:
                print(f"{name} failed", file=sys.stderr)
    print("\t".join(COLUMNS))
    for line in _lines(rows):
        found = json.loads(line)
        print("\t".join(str(found[column]) for column in COLUMNS))


def measure(name: str, data: str, folder: str) -> dict[str, Any]:
    """Train one model and return its row."""
    _, metric = KINDS[kind_of(name)]
    study = fedmri.Study(data, model=narrow(name), settings=_settings(name, folder))
    result = study.run()
    table = result.table()
    scores = table[table["metric"] == metric].set_index("model")["value"]
    records = [json.loads(line) for line in _lines(result.folder / "metrics.jsonl")]
    rounds = [row for row in records if row["kind"] == "round"]
    n_rounds = max(row["round"] for row in rounds)
    seconds = sum(row["seconds"] for row in rounds)
    n_bytes = sum(row.get("bytes_up", 0) + row.get("bytes_down", 0) for row in rounds)
    network = result.model().network
    return {
        "model": name,
        "metric": metric,
        "score": round(float(scores["federated"]), 3),
        "no_image": round(float(scores.get("baseline", 0.0)), 3),  # an empty mask has a Dice of 0
        "linear": round(float(scores["linear"]), 3),
        "parameters": sum(value.numel() for value in network.parameters()),
        "s_a_round": round(seconds / n_rounds, 1),
        "mb_a_round": round(n_bytes / n_rounds / 1e6, 2),
        "mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "watt_hours": round(seconds * WATTS_OF_A_CORE / 3600, 3),
    }


def _settings(name: str, folder: str) -> list[str]:
    kind = kind_of(name)
    wants_row = Need.COVARIATES in getattr(MODELS.load(name), "needs", ())
    return [
        KINDS[kind][0],
        *SIZES[kind],
        *([f"model={name}", "data.source.covariates=[sex:F|M]"] if wants_row else []),
        f"rounds.n_rounds={N_ROUNDS}",
        f"rounds.evaluate_every={N_ROUNDS}",
        "train.batch_size=16",
        "train.is_optimizer_kept=true",
        "train.n_threads=1",
        "simulation.arms=[federated]",
        "simulation.workers=1",
        "simulation.n_pictures=0",
        f"simulation.cache={folder}/cache",
        f"simulation.runs={folder}/runs",
        f"name={name}",
        *OWN_SIZES.get(name, ()),
    ]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    if MEASURE in sys.argv:
        *_, given, data_folder, out = sys.argv
        row = measure(given, data_folder, out)
        with (Path(out) / "zoo.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    else:
        main()
