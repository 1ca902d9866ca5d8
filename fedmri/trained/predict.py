"""From a scan to what a model makes of it, on the scan's own grid; no answer is read."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from fedmri.data.batches.examples import open_images
from fedmri.data.batches.site_data import SiteData
from fedmri.data.preparation.geometry import Grid
from fedmri.data.preparation.native import assembled
from fedmri.data.preparation.prepare import prepare_scans
from fedmri.data.preparation.prepared import Prepared, PreparedScan
from fedmri.data.preparation.regrid import restore, restore_shares
from fedmri.data.scans import Scan
from fedmri.data.settings import DataConfig
from fedmri.data.target import OfImages
from fedmri.errors import FedmriError, UsageError
from fedmri.models.build import build_network
from fedmri.models.weights import load_weights
from fedmri.plan import Plan
from fedmri.tasks.task import Case, Parted, Reading, Task, patient_cases
from fedmri.trained.file.model_file import ModelFile
from fedmri.trained.fit import looked_at, misfits
from fedmri.trained.harmonized import as_trained, reads_own_site, task_of
from fedmri.trained.inputs import Input, LeftOut, Remark
from fedmri.training.computing.arithmetic import Arithmetic
from fedmri.training.computing.device import memory_explained, reproducible
from fedmri.training.looking import Look

Made = TypeVar("Made")


@dataclass(frozen=True)
class PredictOptions:
    """How predictions are made.

    Attributes:
        is_cropped: Look at the field that training cropped to and no more, as a run's own scores
            do; else a volume that is larger is gone over by a sliding window.
        has_probabilities: Keep the probability of each class at each voxel.
        device: As ``train.device``; ``""`` takes the plan's.
    """

    is_cropped: bool = False
    has_probabilities: bool = False
    device: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a model made of one scan.

    Attributes:
        input: The scan.
        grid: The scan's own grid; that of its first image.
        mask: Classes from 0 (background), uint8, shape of the grid; None for other targets.
        shares: Probabilities of background and classes, shape ``(1 + K, *grid.shape)``, where they
            were asked for.
        reading: What a task reads of the scan's examples; None for a mask.
        remarks: What is odd about the scan.
        is_windowed: Whether a sliding window went over it.
    """

    input: Input
    grid: Grid
    mask: np.ndarray | None = None
    shares: np.ndarray | None = None
    reading: Reading | None = None
    remarks: tuple[Remark, ...] = ()
    is_windowed: bool = False

    @property
    def volumes_ml(self) -> tuple[float, ...]:
        """Volume of each class in millilitres, background left out; needs a mask."""
        if self.mask is None:
            return ()
        voxel_ml = abs(float(np.linalg.det(np.array(self.grid.affine)[:3, :3]))) / 1000
        n_classes = int(self.mask.max(initial=0))
        counts = np.bincount(self.mask.ravel(), minlength=n_classes + 1)[1:]
        return tuple(float(count) * voxel_ml for count in counts)


@dataclass(frozen=True)
class Opened:
    """A scan as the model is about to see it.

    Attributes:
        input: The scan.
        scan: As it was prepared.
        remarks: What is odd about it.
        is_windowed: Whether it is larger than the model's patch and was not cropped.
    """

    input: Input
    scan: PreparedScan
    remarks: tuple[Remark, ...]
    is_windowed: bool


def make_network(file: ModelFile) -> nn.Module:
    """Return the network with the file's weights, in evaluation mode, on the CPU."""
    plan = file.card.plan
    network = build_network(plan.model, **plan.network)
    load_weights(network, file.weights)
    return network.eval()


def refuse_incomplete(file: ModelFile) -> None:
    """Refuse a model that lacks what only a site has, or that was never asked a question.

    Raises:
        UsageError: Sites keep entries of it at home (U72), it needs the parameters of the scan's
            own site (U73), or it fills hidden parts of images (U77).
    """
    if isinstance(target := file.card.plan.target, OfImages):
        fix = "train a model that starts from this file: simulation.weights, or --weights"
        what, want = "a prediction", "a model that answers a question about patients"
        raise UsageError("U77", what, found=f"a model of {target.title}", want=want, fix=fix)
    kept = file.card.entries.at_sites
    if kept:
        found = f"{len(kept)} that each site keeps, such as {kept[0]}"
        fix = "take a hospital's own model, or one whose strategy shares all of it, such as fedavg"
        what = "entries of the model"
        raise UsageError("U72", what, found=found, want="all of them in the file", fix=fix)
    if names := reads_own_site(file):
        found = f"stage {', '.join(names)}, which is fitted to all scans of the scan's own site"
        fix = "use `fedmri score` on a data set, or take a model without this stage"
        what, want = "a prediction for one scan", "a model that needs no other scan"
        raise UsageError("U73", what, found=found, want=want, fix=fix)


def refuse_covariates(file: ModelFile, command: str) -> None:
    """Refuse a model that reads columns of a table, where it would be given images alone.

    Raises:
        UsageError: It reads covariates (U86).
    """
    if names := ", ".join(one.name for one in file.card.plan.data.source.declared):
        found, want = f"a model that reads {names} beside the image", "one that reads images alone"
        fix = "use `fedmri predict`, `score` or `explain`, which read the table"
        raise UsageError("U86", command, found=found, want=want, fix=fix)


@dataclass(frozen=True)
class Predictor:
    """A model that is ready to look at scans, one at a time."""

    file: ModelFile
    network: nn.Module
    options: PredictOptions

    @property
    def plan(self) -> Plan:
        """What the model was trained by."""
        return self.file.card.plan

    def refuse_device(self) -> None:
        """Raise ConfigError C23 where the device is not there: no scan is to blame for it."""
        _ = self._arithmetic

    @property
    def _arithmetic(self) -> Arithmetic:
        device = self.options.device or self.plan.train.device
        return Arithmetic.of(replace(self.plan.train, device=device))

    @cached_property
    def task(self) -> Task:
        """What is predicted."""
        return task_of(self.file)

    def each(self, inputs: Iterable[Input]) -> Iterator[Prediction | LeftOut]:
        """Yield what comes of each scan; one that cannot be used ends nothing."""
        return self.over(inputs, self._predicted)

    def over(
        self, inputs: Iterable[Input], work: Callable[[Opened], Made]
    ) -> Iterator[Made | LeftOut]:
        """Yield what some work makes of each scan, as the model sees it.

        Args:
            inputs: Scans.
            work: What is done with one; its arrays are gone after it.
        """
        for one in inputs:
            try:
                yield self._done(one, work)
            except (_Unusable, FedmriError) as error:  # memory, a picture for a model of volumes
                yield LeftOut(one.name, error.code, str(error))

    def patients(self, predictions: Iterable[Prediction]) -> list[Case]:
        """Return one result a patient, as a run's scores have it; without masks."""
        readings: dict[tuple[str, str], list[Reading]] = {}
        for one in predictions:
            if one.reading is not None:
                readings.setdefault(("", one.input.scan.subject), []).append(one.reading)
        return patient_cases(self.task, readings)

    def _done(self, one: Input, work: Callable[[Opened], Made]) -> Made:
        gone, told = looked_at(one.scan, self.plan)
        if gone:
            raise _Unusable(gone[0][0], "; ".join(reason for _, reason in gone))
        with tempfile.TemporaryDirectory(prefix="fedmri-") as cache:
            scan, is_windowed = self._prepared(one.scan, Path(cache))
            remarks = (*one.remarks, *told, *misfits(scan, self.file))
            opened = Opened(one, scan, tuple(dict.fromkeys(remarks)), is_windowed)
            with reproducible(self.plan.train.n_threads):
                return work(opened)

    def _predicted(self, opened: Opened) -> Prediction:
        scan = opened.scan
        made = Prediction(opened.input, scan.geometry.own, remarks=opened.remarks)
        with torch.no_grad():
            if self.task.answer == "image":
                return replace(made, reading=self._read(scan))
            shares = self._windowed(scan) if opened.is_windowed else self._shares(scan)
        return self._restored(replace(made, is_windowed=opened.is_windowed), scan, shares)

    def images(self, scan: PreparedScan) -> torch.Tensor:
        """Return the examples of a scan in order, harmonized, shape ``(n, C, *shape)``."""
        batches = self._data(scan).eval_batches("test", batch_size=self.plan.train.batch_size)
        return torch.cat([batch.image for batch in batches])

    def _prepared(self, scan: Scan, cache: Path) -> tuple[PreparedScan, bool]:
        """Return the scan as the plan prepares it, and whether a window must go over it.

        Raises:
            _Unusable: It cannot be prepared.
        """
        prepared = _prepare(scan, self.plan.data, cache)
        is_larger = (
            self.task.answer == "voxel"
            and self.plan.data.prepare.dimension == "3d"
            and any(self.plan.data.prepare.shape)
            and _is_cut(prepared)
        )
        if not is_larger or self.options.is_cropped:
            return prepared, False
        whole = replace(self.plan.data.prepare, shape=(0, 0, 0))
        return _prepare(scan, replace(self.plan.data, prepare=whole), cache), True

    def _data(self, scan: PreparedScan) -> SiteData:
        """Return the scan's examples, harmonized as those of training were."""
        prepared = Prepared((scan,), (), "", scan.image.parent)
        return as_trained(open_images(prepared, self.plan.data), self.file)

    def _outputs(self, scan: PreparedScan) -> torch.Tensor:
        """Return what the task makes of the network's outputs, for the examples in order."""
        how, found = self._arithmetic, []
        network = self.network.to(how.device)
        with memory_explained(how.device):
            batches = self._data(scan).eval_batches("test", batch_size=self.plan.train.batch_size)
            for batch in batches:
                inputs = how.inputs(batch.inputs)
                outputs = self._look(scan).outputs(how.answering(network), inputs)
                found.append(self.task.predict(outputs).cpu())
        return torch.cat(found)

    def _read(self, scan: PreparedScan) -> Reading:
        outputs = self._outputs(scan)
        unknown = torch.full((len(outputs),), math.nan)
        return self.task.read(outputs, unknown, tuple(scan.examples()))

    def _shares(self, scan: PreparedScan) -> np.ndarray:
        shares = self._outputs(scan).numpy()
        return assembled(shares, scan.slices, scan.geometry.prepared)

    def _windowed(self, scan: PreparedScan) -> np.ndarray:
        """Return probabilities of a whole volume, from windows of the size of training."""
        how = self._arithmetic
        network = self.network.to(how.device)
        [batch] = self._data(scan).eval_batches("test", batch_size=1)
        with memory_explained(how.device):
            is_zero = self.plan.data.prepare.scaling == "zscore"
            fill = 0.0 if is_zero else float(batch.image.min())
            look = replace(self._look(scan), patch=self.plan.shape, fill=fill)
            outputs = look.outputs(how.answering(network), how.inputs(batch.inputs))
            found = self.task.predict(outputs)
        shares: np.ndarray = found[0].cpu().numpy()
        return shares

    def _look(self, scan: PreparedScan) -> Look:
        return Look.of(self.plan.data, scan.mirror_axis)

    def _restored(self, made: Prediction, scan: PreparedScan, shares: np.ndarray) -> Prediction:
        grids = scan.geometry.prepared, scan.geometry.own
        kept = restore_shares(shares, *grids) if self.options.has_probabilities else None
        mask = restore(shares, *grids)
        if isinstance(self.task, Parted):
            mask = self.task.finished(mask, grids[1].spacing_mm)
        return replace(made, mask=mask, shares=kept)


class _Unusable(Exception):  # noqa: N818  # a reason that is told, and no error of the command
    """Why there is no prediction for a scan."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _prepare(scan: Scan, config: DataConfig, cache: Path) -> PreparedScan:
    prepared = prepare_scans([scan], None, config, {scan.subject: "test"}, cache)
    if not prepared.scans:
        finding = prepared.findings[0]
        raise _Unusable(finding.code, finding.reason.partition(": ")[2])
    return prepared.scans[0]


def _is_cut(scan: PreparedScan) -> bool:
    """Whether a part of the scan's own grid lies outside the prepared one."""
    own, prepared = scan.geometry.own, scan.geometry.prepared
    corners = (own.voxels_in(prepared) @ own.corners())[:3]
    top = np.array(prepared.shape)[:, None] - 1
    reach = 1  # voxel: resampling rounds the size up
    return bool((corners < -reach).any() or (corners > top + reach).any())
