"""A site's part in secure sums: one step after another, each on the disk before its answer leaves.

A server that lost an answer asks again and gets the same one; any other order out of turn is
refused. Of the same values a site lets the server learn one sum: it does not reveal its shares
again for other survivors, see ``Revealed``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

from fedmri.clients.egress.revealed import Revealed, Subject
from fedmri.errors import PrivacyError
from fedmri.machine.files import PRIVATE_FILE, make_private_folder, write_tensors
from fedmri.round import Form, Weights
from fedmri.secagg.messages import N_ADVERT, N_BOX, Boxes, Roster, Survivors
from fedmri.secagg.ring import Slot, n_words
from fedmri.secagg.secure_sum import Roll, SecureSum
from fedmri.secagg.shares import N_SHARE
from fedmri.secagg.site_half import SiteHalf
from fedmri.secagg.state import SiteState
from fedmri.secagg.wide import to_limbs, wide_slots
from fedmri.wire import MASKED, Masking, SecureStep, SumsOrder, as_arrays, as_tensors

NumpyArrays: TypeAlias = "dict[str, NDArray[Any]]"


@dataclass(frozen=True)
class Membership:
    """What a site takes part in the secure sums of a run with.

    Attributes:
        roll: Who takes part in them, as JSON of ``Roll``: signed by the coordinator.
        key: File of the site's enrolled private key; "" is a simulated site, whose key protects
            nothing.
        book: File of what was revealed of the plan, whatever the run; "" is one in the run's own
            folder.
    """

    roll: str = ""
    key: str = ""
    book: str = ""

    def private_key(self, site: str) -> ec.EllipticCurvePrivateKey:
        """Return the site's enrolled key."""
        if not self.key:
            return simulated_key(site)
        loaded = serialization.load_ssh_private_key(Path(self.key).read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)  # checked when the client started
        return loaded


@dataclass(frozen=True)
class Values:
    """What a site adds to a sum, and what it tells in clear beside it.

    Attributes:
        of: What they are, by what they were computed from; no label of the server's is in it.
        arrays: What is added.
        metrics: What is told.
    """

    of: Subject
    arrays: Mapping[str, NDArray[np.generic]]
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kept:
    """What is on the disk after a step.

    Attributes:
        number: Number of the last sum that the site advertised for.
        state: Its state in that sum.
        order: Digest of the order that was answered last; the answer lies beside it.
        metrics: What was told in clear beside that.
        summed: What was masked last.
    """

    number: int = -1
    state: bytes = b""
    order: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    summed: Subject = field(default_factory=Subject)


class SecureSite:
    """The steps of a site in the secure sums of a run.

    Args:
        site: Name of the site.
        folder: Private folder of the site for the run.
        membership: What it takes part with.
    """

    def __init__(self, site: str, folder: Path, membership: Membership) -> None:
        self._site = site
        self._path = folder / "secure-sum.safetensors"
        self._revealed = Revealed(Path(membership.book or folder / "revealed.jsonl"))
        self._membership = membership
        self._roll = Roll.from_json(membership.roll) if membership.roll else Roll()

    def answer(self, order: SecureStep, slots: Mapping[str, Slot]) -> Weights:
        """Return the answer to a step besides the values; see ``SiteHalf`` for the errors."""
        half, kept = self._half(order.number, slots), self._kept()
        digest = _digest(order.stage, order.number, order.arrays)
        if kept.order == digest:
            return self._last_answer()
        kept, said = self._take(half, kept, order)
        self._keep(replace(kept, order=digest, metrics={}), said)
        return as_tensors(said)

    def mask(
        self,
        masking: Masking | None,
        order: str,
        slots: Mapping[str, Slot],
        compute: Callable[[], Values],
    ) -> tuple[Weights, dict[str, float]]:
        """Return the values under their masks, and the metrics that leave in clear.

        Args:
            masking: What came with the order.
            order: Digest of the rest of the order: asked again, the site gives the same answer.
            slots: What is summed.
            compute: Computes the values; not called where they were masked already.

        Raises:
            PrivacyError: The order would have the values in clear (P59), or see ``SiteHalf``.
        """
        if masking is None:
            raise _in_clear()
        half, kept = self._half(masking.number, slots), self._kept()
        digest = _digest(f"mask {order}", masking.number, masking.arrays)
        if kept.order == digest:
            return self._last_answer(), dict(kept.metrics)
        state = self._state(kept, masking.number)
        inbox = Boxes.from_arrays(as_arrays(masking.arrays), half.sum.sites).of(self._site)
        values = compute()
        state, message = half.mask(state, inbox, values.arrays)
        said, metrics = dict(message.to_arrays()), dict(values.metrics)
        kept = replace(kept, state=state.to_bytes(), order=digest, metrics=metrics)
        kept = replace(kept, summed=values.of)
        self._keep(kept, said)
        return as_tensors(said), metrics

    def sums(
        self,
        order: SumsOrder,
        shapes: Mapping[str, tuple[int, ...]],
        own: Callable[[], Mapping[str, NDArray[np.float64]]],
        sketched: Callable[[Mapping[str, NDArray[np.float64]]], tuple[float, ...]] | None = None,
    ) -> Weights:
        """Return this site's part of a harmonization's sums under its masks; see ``mask``."""
        what = {"shared": order.shared, "model": order.weights, **order.extra}
        parts = (_digest(name, order.round_index, values) for name, values in what.items())
        digest = f"sums {order.step} {' '.join(parts)}"
        slots = wide_slots(shapes)

        def values() -> Values:
            arrays = own()
            # all steps before the rounds are of the same scans, or rows: one account of them
            of = Subject("sums before the rounds", "all")
            if order.weights and sketched:
                of = Subject("embeddings", _digest("model", 0, order.weights), sketched(arrays))
            return Values(of, to_limbs(arrays))

        return self.mask(order.masking, digest, slots, values)[0]

    def forms(self, order: SecureStep) -> dict[str, Form]:
        """Return the form of the answer to a step besides the values."""
        n = len(self._roll.keys)
        shapes: dict[str, dict[str, tuple[int, ...]]] = {
            "advertise": {"advert": (N_ADVERT,)},
            "share": {"boxes": (n, N_BOX), "present": (n,)},
            "reveal": {"shares": (n, N_SHARE), "present": (n,)},
        }
        of_stage = shapes.get(order.stage)
        if of_stage is None:
            raise _out_of_turn(f"step {order.stage!r}", "a step of a secure sum")
        return {name: Form(torch.uint8, shape) for name, shape in of_stage.items()}

    def _take(self, half: SiteHalf, kept: _Kept, order: SecureStep) -> tuple[_Kept, NumpyArrays]:
        arrays, sites = as_arrays(order.arrays), half.sum.sites
        if order.stage == "advertise":
            state, advert = half.advertise(kept.number)
            kept = replace(kept, number=order.number, state=state.to_bytes())
            return kept, dict(advert.to_arrays())
        state = self._state(kept, order.number)
        if order.stage == "share":
            state, sealed = half.share(state, Roster.from_arrays(arrays, sites))
            return replace(kept, state=state.to_bytes()), dict(sealed.to_arrays(sites))
        survivors = Survivors.from_arrays(arrays, sites)
        self._revealed.refuse_other(kept.summed, survivors.sites)
        state, reveal = half.reveal(state, survivors)
        self._revealed.keep(kept.summed, survivors.sites)
        return replace(kept, state=state.to_bytes()), dict(reveal.to_arrays(sites))

    def _half(self, number: int, slots: Mapping[str, Slot]) -> SiteHalf:
        secure_sum: SecureSum = self._roll.sum(number, slots)
        return SiteHalf(secure_sum, self._site, self._membership.private_key(self._site))

    def _state(self, kept: _Kept, number: int) -> SiteState:
        if kept.number != number:
            raise _out_of_turn(f"sum {number}", f"sum {kept.number}, the last begun")
        return SiteState.from_bytes(kept.state)

    def _kept(self) -> _Kept:
        if not self._path.exists():
            return _Kept()
        with safe_open(self._path, "numpy") as file:
            fields = json.loads(file.metadata()["fields"])
        subject = Subject.of_fields(fields["summed"])
        return _Kept(**{**fields, "state": bytes.fromhex(fields["state"]), "summed": subject})

    def _keep(self, kept: _Kept, answer: NumpyArrays) -> None:
        told = {"state": kept.state.hex(), "summed": kept.summed.fields}
        fields = json.dumps({**vars(kept), **told})
        make_private_folder(self._path.parent)
        write_tensors(self._path, as_tensors(answer), {"fields": fields}, PRIVATE_FILE)

    def _last_answer(self) -> Weights:
        return as_tensors(load_file(self._path))


def sum_forms(shapes: Mapping[str, tuple[int, ...]], *, is_masked: bool) -> dict[str, Form]:
    """Return the forms of a site's part of a harmonization's sums, in clear or under masks."""
    if is_masked:
        return masked_form(wide_slots(shapes))
    return {name: Form(torch.float64, shape) for name, shape in shapes.items()}


def masked_form(slots: Mapping[str, Slot]) -> dict[str, Form]:
    """Return the form of values under their masks."""
    return {MASKED: Form(torch.uint64, (n_words(slots),))}


def simulated_key(site: str) -> ec.EllipticCurvePrivateKey:
    """Return the key of a simulated site: it can be repeated, and protects nothing."""
    number = int.from_bytes(hashlib.sha256(f"key of simulated site {site}".encode()).digest())
    return ec.derive_private_key(number, ec.SECP384R1())


def _digest(stage: str, number: int, arrays: Weights) -> str:
    total = hashlib.sha256(f"{stage} {number}".encode())
    for name in sorted(arrays):
        total.update(f" {name} {tuple(arrays[name].shape)} ".encode())
        total.update(arrays[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def _in_clear() -> PrivacyError:
    fix = "do not go on; ask the coordinator what its server runs"
    found, want = "an order that wants them in clear", "secure aggregation, as the plan says"
    return PrivacyError("P59", "values of this site", found=found, want=want, fix=fix)


def _out_of_turn(found: str, want: str) -> PrivacyError:
    fix = "nothing is lost: the server begins a new sum in the next round, or when it resumes"
    return PrivacyError("P54", "order for a secure sum", found=found, want=want, fix=fix)
