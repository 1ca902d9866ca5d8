"""How far a scan is from the scans that a model knows, by sums over embeddings and over looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from fedmri.errors import UsageError
from fedmri.harmonize.embeddings.invariance import consensus_of, moment_sums
from fedmri.machine.files import write_tensors

SUMS, MODEL, USUAL = "reference_sums.safetensors", "model_sha256", "usual"
KINDS = ("embedding", "look")
LEAST_SCANS = 3
QUANTILE = 0.95


@dataclass(frozen=True)
class Sums:
    """Sums over numbers of scans: all that is kept of them.

    Attributes:
        sums: Number, first and second moments, as ``moment_sums`` gives them.
        usual: Distance that 95 % of the scans keep, each from the others; NaN where unknown.
    """

    sums: dict[str, torch.Tensor]
    usual: float

    @classmethod
    def of(cls, rows: torch.Tensor) -> Sums:
        """Return the sums over scans, shape ``(n, d)``."""
        whole = moment_sums(rows)
        others = [cls(_minus(whole, moment_sums(row[None])), math.nan) for row in rows]
        apart = torch.tensor([o.distance(row) for o, row in zip(others, rows, strict=True)])
        return cls(whole, float(apart.quantile(QUANTILE)))

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """All that a file holds of them."""
        return {**self.sums, USUAL: torch.tensor(self.usual, dtype=torch.float64)}

    @property
    def n_scans(self) -> int:
        """How many scans there were."""
        return int(self.sums["n_examples"].sum())

    def distance(self, row: torch.Tensor) -> float:
        """Return the Mahalanobis distance of a scan's numbers ``(d,)``, a root mean over them.

        With few scans the covariance is drawn to equal variances: features that never moved among
        them, such as those behind a ReLU, would else decide alone.

        Source:
            Lee et al. 2018, arXiv:1807.03888 (distance of embeddings); Ledoit and Wolf 2004,
            doi:10.1016/S0047-259X(03)00096-4 (target of the shrinkage; its weight is ours).
        """
        known = consensus_of(self.sums)
        mean, covariance = known.mean[0], known.covariance[0]
        d, n = len(mean), self.n_scans
        scale = covariance.diagonal().mean().clamp(min=1e-12)
        weight = d / (d + n)
        drawn = (1 - weight) * covariance + weight * scale * torch.eye(d, dtype=mean.dtype)
        gap = row.double() - mean
        square = gap @ torch.linalg.solve(drawn, gap)
        return float((square / d).clamp(min=0).sqrt())


@dataclass(frozen=True)
class KnownScans:
    """Sums over scans that a model knows: what its network makes of them, and how they look.

    Attributes:
        embedding: Of their embeddings.
        look: Of their images.
        model: SHA-256 of the weights that made the embeddings.
    """

    embedding: Sums
    look: Sums
    model: str

    @classmethod
    def of(cls, embeddings: torch.Tensor, looks: torch.Tensor, model: str) -> KnownScans:
        """Return the sums over scans, shapes ``(n, d)`` and ``(n, e)``.

        Raises:
            UsageError: There are fewer than three (U74).
        """
        if len(embeddings) < LEAST_SCANS:
            found, fix = f"{len(embeddings)}", "name a folder with more scans that training knew"
            want = f"{LEAST_SCANS} or more"
            raise UsageError("U74", "scans of --reference", found=found, want=want, fix=fix)
        return cls(Sums.of(embeddings), Sums.of(looks), model)

    def write(self, path: Path) -> None:
        """Write the sums; one scan among many cannot be told from them, one of few can."""
        tensors = {
            f"{name}.{key}": value
            for name, one in zip(KINDS, (self.embedding, self.look), strict=True)
            for key, value in one.tensors.items()
        }
        write_tensors(path, tensors, {MODEL: self.model})


def read_sums(path: Path, model: str) -> KnownScans:
    """Read sums of the same model.

    Raises:
        UsageError: It is no such file, or one of another model (U70).
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            of = (file.metadata() or {}).get(MODEL, "")
        if of != model:
            raise ValueError("sums under another model")
        parts = {kind: _part(tensors, kind) for kind in KINDS}
        if tensors:
            raise ValueError("tensors that are no sums")
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        fix = "make it again by --reference with a folder of scans, under the same model"
        want, what = f"{SUMS} of this model", f"sums {path}"
        raise UsageError("U70", what, found=f"{error}", want=want, fix=fix) from error
    return KnownScans(**parts, model=model)


def _part(tensors: dict[str, torch.Tensor], kind: str) -> Sums:
    """Take the sums of a kind out of a file's tensors."""
    names = [name for name in tensors if name.startswith(f"{kind}.")]
    own = {name.removeprefix(f"{kind}."): tensors.pop(name) for name in names}
    usual = float(own.pop(USUAL))
    _refuse_other_sums(own)
    return Sums(own, usual)


def _refuse_other_sums(tensors: dict[str, torch.Tensor]) -> None:
    d = tensors["first"].shape[-1]
    wanted = {"n_examples": (1,), "first": (1, d), "second": (1, d, d)}
    if {name: tuple(value.shape) for name, value in tensors.items()} != wanted:
        raise ValueError("tensors that are no sums")
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise ValueError("values that are not finite")


def _minus(
    whole: dict[str, torch.Tensor], part: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    return {name: value - part[name] for name, value in whole.items()}


def median(values: Sequence[float]) -> float:
    """Return the median of the finite values; NaN where there are none."""
    finite = torch.tensor([value for value in values if math.isfinite(value)])
    return float(finite.median()) if len(finite) else math.nan
