"""A trained model explained on scans: maps, doubt and distance, a scan at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedmri.data.preparation.native import assembled
from fedmri.data.preparation.prepared import PreparedScan
from fedmri.data.preparation.regrid import regrid, restore
from fedmri.errors import DataError
from fedmri.explain.attribution.columns import MOST_COLUMNS, Pull, pulls, some_of
from fedmri.explain.attribution.maps import WHY_NONE, Seen, incompleteness
from fedmri.explain.attribution.scores import Scores, classes_of, feature_layers
from fedmri.explain.distance import SUMS
from fedmri.explain.drawing import overlay
from fedmri.explain.explainer import Explainer
from fedmri.explain.judged import likeness, share_inside
from fedmri.explain.options import ExplainOptions, Method
from fedmri.explain.record import Explained, Judged, ScanExplained, summary_of
from fedmri.explain.uncertainty import Doubt
from fedmri.machine.files import write_whole
from fedmri.trained.file.model_file import ModelFile
from fedmri.trained.inputs import Gathered, LeftOut, label_of
from fedmri.trained.outputs import BIDS_VERSION, make_empty, place_of, write_map
from fedmri.trained.outputs import write_table as write_rows
from fedmri.trained.predict import Opened, refuse_incomplete
from fedmri.training.computing.device import memory_explained

SUMMARY, SCANS = "summary.json", "explanations.tsv"
Maps = Mapping[Method, np.ndarray]


def explain(file: ModelFile, found: Gathered, out: Path, options: ExplainOptions) -> Explained:
    """Explain a model on scans, and write maps, a table and aggregates to a folder.

    Raises:
        UsageError: The model cannot predict by itself (U72, U73), models do not go together (U85),
            the reference cannot be used (U70, U74), or the folder holds files (U20).
        ConfigError: The class is not one of the model's (C01), or the device is not there (C23).
    """
    refuse_incomplete(file)
    explainer = Explainer.of(file, options, found.inputs)
    make_empty(out)
    write_whole(out / "dataset_description.json", _description(file))
    sums, unknown = explainer.known
    if sums is not None:
        sums.write(out / SUMS)
    every = tuple(explainer.predictor.over(found.inputs, partial(_explained, explainer, out)))
    scans = tuple(one for one in every if isinstance(one, ScanExplained))
    gone = (*unknown, *found.left_out, *(one for one in every if isinstance(one, LeftOut)))
    summary = {"model_sha256": file.card.sha256, **summary_of(scans, len(gone), sums)}
    _write_tables(out, scans, gone, summary)
    files = [path for one in scans for path in one.files]
    return Explained(scans, gone, summary, (*files, out / SCANS, out / SUMMARY))


def _explained(explainer: Explainer, out: Path, opened: Opened) -> ScanExplained:
    with memory_explained(explainer.place), explainer.beside(opened):
        return _OneScan(explainer, out, opened, explainer.images(opened)).explained()


@dataclass(frozen=True)
class _OneScan:
    """One scan on its way through the methods."""

    by: Explainer
    out: Path
    opened: Opened
    images: torch.Tensor

    @property
    def scan(self) -> PreparedScan:
        return self.opened.scan

    @cached_property
    def doubt(self) -> Doubt:
        return self.by.predictions(self.images)

    @cached_property
    def inside(self) -> np.ndarray:
        """Where the examples are not air, shape ``(n, *shape)``."""
        return (self.images != 0).any(1).cpu().numpy()

    @cached_property
    def index(self) -> int:
        """Which score is explained."""
        target, name = self.by.predictor.plan.target, self.by.options.explained_class
        is_mask = target.answer == "voxel"
        if name:
            return classes_of(target).index(name) + is_mask
        mean = self.doubt.mean
        if not is_mask:  # the first of numbers that are no classes is what is predicted
            return int(mean.mean(0).argmax()) if classes_of(target) else 0
        counts = torch.bincount(mean.argmax(1).flatten(), minlength=mean.shape[1])[1:]
        return 1 + int(counts.argmax())

    @property
    def answer(self) -> str:
        target = self.by.predictor.plan.target
        if target.answer == "voxel":
            return classes_of(target)[self.index - 1]
        return next(iter(target.answers(self.doubt.mean.mean(0).tolist(), None).values()))

    def explained(self) -> ScanExplained:
        maps, skipped = self._all_maps()
        mask, why = self._mask()
        files = self._write(maps["model"])
        columns, unread = self._columns()
        skipped |= {"mask": why} if why else {}
        skipped |= {"columns": unread} if unread else {}
        own = {name: {m: self._own(v) for m, v in each.items()} for name, each in maps.items()}
        judged = {method: self._judge(method, maps, own, mask) for method in maps["model"]}
        head = self._own(self.inside.astype(np.float32)) > 0
        chance = math.nan if mask is None else float((mask & head).sum() / max(1, head.sum()))
        has_gradients = "integrated_gradients" in maps["model"]
        total, between = self._numbers()
        distance, look_distance = self.by.distances(self.images)
        return ScanExplained(
            input=self.opened.input,
            answer=self.answer,
            judged=judged,
            columns=columns,
            chance=chance,
            gap=self._gap() if has_gradients else math.nan,
            doubt=total,
            between=between,
            n_members=self.doubt.n_members,
            risk=self._risk(mask),
            distance=distance,
            look_distance=look_distance,
            skipped=skipped,
            remarks=self.opened.remarks,
            files=files,
        )

    def _all_maps(self) -> tuple[dict[str, dict[Method, np.ndarray]], dict[str, str]]:
        maps: dict[str, dict[Method, np.ndarray]] = {}
        skipped: dict[str, str] = {}
        for name, network in self.by.twins.items():
            maps[name] = {}
            for method in self.by.options.methods:
                found = self._map(network, method)
                if found is None:
                    skipped[method] = WHY_NONE[method]
                else:
                    maps[name][method] = found
        return maps, skipped

    def _map(self, network: nn.Module, method: Method) -> np.ndarray | None:
        """Return the maps of all examples, shape ``(n, *shape)``."""
        seen, found = self._seen(network), []
        for image, region in zip(torch.split(self.images, 1), self._regions, strict=True):
            seen.scores.look_at(region)
            one = seen.map(method, image, self.index)
            if one is None:
                return None
            found.append(one[0, 0].detach().cpu().numpy())
        return np.stack(found).astype(np.float32)

    def _seen(self, network: nn.Module) -> Seen:
        answer = self.by.predictor.plan.target.answer
        layers = feature_layers(network, self.images[:1], self.by.head)
        return Seen(Scores(network, answer).eval(), layers, self.by.options.n_steps)

    @cached_property
    def _regions(self) -> Sequence[torch.Tensor | None]:
        """Where each example was predicted as the class; None where nowhere, or no mask."""
        if self.by.predictor.plan.target.answer == "image":
            return [None] * len(self.images)
        called = self.doubt.mean.argmax(1) == self.index
        return [one.to(self.by.place) if bool(one.any()) else None for one in called]

    def _gap(self) -> float:
        seen = self._seen(self.by.network)
        middle = len(self.images) // 2
        seen.scores.look_at(self._regions[middle])
        return incompleteness(seen, self.images[middle : middle + 1], self.index)

    def _judge(
        self,
        method: Method,
        maps: Mapping[str, Maps],
        own: Mapping[str, Maps],
        mask: np.ndarray | None,
    ) -> Judged:
        mine = maps["model"][method]
        alike = {
            name: likeness(mine, maps[name][method], self.inside)
            if method in maps[name]
            else math.nan
            for name in ("untrained", "head")
        }
        shares = {
            name: math.nan
            if mask is None or method not in own[name]
            else share_inside(own[name][method], mask)
            for name in ("model", "untrained")
        }
        return Judged(shares["model"], shares["untrained"], alike["untrained"], alike["head"])

    def _columns(self) -> tuple[dict[str, Pull], str]:
        """Return what each column adds to the score, or why it cannot be told."""
        columns, rows = self.by.predictor.plan.data.source.declared, self.by.rows
        if not columns:
            return {}, ""
        if len(columns) > MOST_COLUMNS:
            return {}, f"{len(columns)} columns, and {MOST_COLUMNS} can be told apart"
        if len(rows) < 2:
            return {}, "no row of another patient: name more scans, or --reference with a folder"
        others = some_of(rows, 2 ** len(columns), len(self.images), self.by.options.seed)
        return pulls(self._score_with, self.by.row(self.opened), others, columns), ""

    def _score_with(self, row: torch.Tensor) -> float:
        """Return the mean score of the examples, had the patient another row."""
        with torch.no_grad():
            outputs = self.by.network(self.images, row.expand(len(self.images), -1))
        return float(outputs[:, self.index].mean())

    def _mask(self) -> tuple[np.ndarray | None, str]:
        if self.by.masks is None:
            return None, ""
        return self.by.masks.mask_of(self.opened.input.scan, self.scan.geometry.own)

    def _numbers(self) -> tuple[float, float]:
        """Return total and disagreeing doubt of the scan: over examples, or voxels of the head."""
        total, between = self.doubt.total.numpy(), self.doubt.between.numpy()
        if self.by.predictor.plan.target.answer == "voxel" and self.inside.any():
            total, between = total[self.inside], between[self.inside]
        return float(total.mean()), float(between.mean())

    def _risk(self, mask: np.ndarray | None) -> float:
        target, mean = self.by.predictor.plan.target, self.doubt.mean
        if target.answer == "voxel":
            return math.nan if mask is None else self._lost_dice(mask)
        try:
            truth = target.truth(self.opened.input.scan)
        except DataError:
            return math.nan
        if isinstance(truth, tuple):
            return math.nan  # several truths a patient have no one error
        if target.n_outputs > 1:
            return float(int(mean.mean(0).argmax()) != int(truth))
        return abs(float(mean.mean()) - truth)

    def _lost_dice(self, mask: np.ndarray) -> float:
        grids = self.scan.geometry.prepared, self.scan.geometry.own
        shares = assembled(self.doubt.mean.numpy(), self.scan.slices, grids[0])
        called = restore(shares, *grids) > 0
        return 1 - 2 * float((called & mask).sum()) / max(1.0, float(called.sum() + mask.sum()))

    def _own(self, values: np.ndarray) -> np.ndarray:
        """Return a map of the examples, ``(n, *shape)``, on the scan's own grid."""
        stacked = np.stack([np.zeros_like(values), values], axis=1)
        prepared, own = self.scan.geometry.prepared, self.scan.geometry.own
        whole = assembled(stacked, self.scan.slices, prepared)[1]
        found = regrid(np.ascontiguousarray(whole), prepared, own, fill=0.0, is_smoothed=False)
        return found.astype(np.float32).clip(min=0)

    def _write(self, maps: Maps) -> tuple[Path, ...]:
        one = self.opened.input
        place, image = place_of(self.out, one.scan), next(iter(one.scan.images.values()))
        named: dict[str, np.ndarray] = dict(maps.items())
        if self.by.predictor.plan.target.answer == "voxel":
            most = math.log(self.doubt.mean.shape[1])
            named["entropy"] = self.doubt.total.numpy() / most
            named["information"] = self.doubt.between.numpy() / most
        files = []
        for name, values in named.items():
            is_map = name in maps
            found = self._own(values.astype(np.float32))
            if is_map and found.max() > 0:
                found = found / found.max()
            stem = f"{one.name}_desc-{label_of(name.replace('+', 'p'))}_"
            stem += "saliency" if is_map else "uncertainty"
            files.append(write_map(place / stem, found, self.scan.geometry.own, image))
        picture = place / f"{one.name}_overlay.png"
        write_whole(picture, overlay(self._planes, _planes_of(maps), f"{self.answer}"))
        return (*files, picture)

    @property
    def _planes(self) -> np.ndarray:
        n_middle = self.images.shape[1] // max(1, len(self.scan.present)) // 2
        return _flat(self.images[:, n_middle].cpu().numpy())


def _planes_of(maps: Maps) -> dict[str, np.ndarray]:
    return {name: _flat(values) for name, values in maps.items()}


def _flat(values: np.ndarray) -> np.ndarray:
    """Return planes along the first axis: slices as they are, a volume cut along its last axis."""
    return values if values.ndim == 3 else np.moveaxis(values[0], -1, 0)


def _description(file: ModelFile) -> str:
    made_by = {"Name": "fedmri", "Version": version("fedmri")}
    said = {
        "Name": f"Explanations of {file.card.plan.target.name}, not to leave the site",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [made_by],
        "ModelSHA256": file.card.sha256,
    }
    return json.dumps(said, indent=2) + "\n"


def _write_tables(
    out: Path,
    scans: Sequence[ScanExplained],
    gone: Sequence[LeftOut],
    summary: Mapping[str, object],
) -> None:
    rows = [one.row for one in scans]
    rows += [{"scan": one.name, "remarks": f"{one.reason} [{one.code}]"} for one in gone]
    names = [name for row in rows for name in row if name != "remarks"]
    write_rows(out / SCANS, rows, [*dict.fromkeys(names), "remarks"])
    write_whole(out / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")
