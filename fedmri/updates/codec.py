"""How an update travels: whole or as its difference, in full or in fewer bits.

Matrices and kernels, the entries of two or more dimensions, are nearly all of a model: they alone
are rounded. Biases, norm parameters and statistics travel in full, because a rounded variance may
turn negative; so do integers. What rounding leaves out is kept at the site and added to its next
update (error feedback), so that nothing is lost for good, only late.

Both halves work in the entry's own floating type and round half to even, so that the same update
gives the same bits on every machine.

Source:
    Seide, Fu, Droppo, Li and Yu 2014, 1-bit stochastic gradient descent,
    doi:10.21437/Interspeech.2014-274. Karimireddy, Rebjock, Stich and Jaggi 2019, Error feedback
    fixes SignSGD, arXiv:1901.09847.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from fedmri.errors import RoundError
from fedmri.plan import TransportConfig
from fedmri.round import Form, Update, Weights

SCALE = "/scale"
"""What follows an entry's name in the name of its scales; no entry of a network has a slash."""

N_STEPS = 127
"""Steps of 8 bits on either side of zero."""

NARROW = {"fp16": torch.float16, "bf16": torch.bfloat16}
PLAIN = TransportConfig()


@dataclass(frozen=True)
class Encoded:
    """An update as it travels, and what must stay behind.

    Attributes:
        arrays: What travels, by the names of ``declared``.
        residual: What rounding left out; the site adds it to its next update and never sends it.
    """

    arrays: Weights
    residual: Weights


def declared(received: Mapping[str, torch.Tensor], config: TransportConfig) -> dict[str, Form]:
    """Return the entries of an update as it travels: these and no others.

    Args:
        received: What the site was sent: the shared entries of the model.
        config: How the update travels.

    Returns:
        ``fp16`` as float16; ``bf16`` as the uint16 of its bits, since ``.npy`` has no such type;
        ``int8`` as int8 and, as ``NAME/scale``, one scale for each index of the first axis.
    """
    forms: dict[str, Form] = {}
    for name, value in received.items():
        shape = tuple(value.shape)
        if not _is_rounded(value, config):
            forms[name] = Form(value.dtype, shape)
        elif config.dtype == "int8":
            forms[name] = Form(torch.int8, shape)
            forms[name + SCALE] = Form(torch.float32, shape[:1])
        else:
            forms[name] = Form(torch.uint16 if config.dtype == "bf16" else torch.float16, shape)
    return forms


def encode(
    trained: Weights,
    received: Weights,
    config: TransportConfig,
    residual: Mapping[str, torch.Tensor],
) -> Encoded:
    """Return the update of a round as it travels; plain weights are returned as they are.

    Args:
        trained: The shared entries after training; not changed. Others travel as they are.
        received: The same entries before it, as the server sent them.
        config: How the update travels.
        residual: What rounding left out of the site's last update; empty before its first.

    Raises:
        RoundError: A value is not finite (R04), or too large for the type that it is rounded to
            (R31).
    """
    if config == PLAIN:
        return Encoded(trained, {})
    arrays: Weights = {}
    left: Weights = {}
    for name, value in trained.items():
        if name not in received:  # an earlier stage adds it, and takes it out again at the server
            arrays[name] = value
            continue
        is_change = config.update == "difference" and value.is_floating_point()
        whole = value - received[name] if is_change else value
        if name in residual:
            whole = whole + residual[name]
        _require_finite(name, whole)
        if _is_rounded(value, config):
            arrays |= _rounded(name, whole, config)
            left[name] = whole - _restored(name, arrays, whole.dtype, config)
        else:
            arrays[name] = whole
    return Encoded(arrays, left)


def decode(update: Update, received: Weights, config: TransportConfig) -> Update:
    """Return an update whose weights are the site's model again, decoded when they are looked at.

    Args:
        update: What a site returned, its weights as they travel.
        received: What the site was sent.
        config: How the update travels.

    Raises:
        RoundError: Names, shapes or types are not the declared ones (R03), or a scale is negative
            or not finite (R30).
    """
    if config == PLAIN:
        return update
    _require_declared(update, declared(received, config))
    return replace(update, weights=_Decoded(update.weights, received, config))


class _Decoded(Mapping[str, torch.Tensor]):
    """Weights that are decoded one at a time, so that a server never holds a decoded model more."""

    def __init__(
        self,
        arrays: Mapping[str, torch.Tensor],
        received: Weights,
        config: TransportConfig,
    ) -> None:
        self._arrays = arrays
        self._received = received
        self._config = config

    def __getitem__(self, name: str) -> torch.Tensor:
        value = self._arrays[name]
        if name not in self._received:
            return value
        base = self._received[name]
        if _is_rounded(base, self._config):
            value = _restored(name, self._arrays, base.dtype, self._config)
        if self._config.update == "difference" and base.is_floating_point():
            return base + value
        return value

    def __iter__(self) -> Iterator[str]:
        yield from self._received
        yield from (n for n in self._arrays if n not in self._received and not n.endswith(SCALE))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_rounded(value: torch.Tensor, config: TransportConfig) -> bool:
    return config.dtype != "fp32" and value.is_floating_point() and value.dim() >= 2


def _rounded(name: str, whole: torch.Tensor, config: TransportConfig) -> Weights:
    if config.dtype == "int8":
        scale = _scale_of(whole)
        # A row of zeros has scale 0 and stays zero, whatever it is divided by.
        divisor = torch.where(scale > 0, scale, 1)
        steps = torch.round(whole / _along_first(divisor, whole.dim()))
        return {name: steps.clamp(-N_STEPS, N_STEPS).to(torch.int8), name + SCALE: scale}
    narrow = whole.to(NARROW[config.dtype])
    if not narrow.isfinite().all():
        limit = torch.finfo(narrow.dtype).max
        found = f"{whole.abs().max().item():.4g}"
        want = f"at most {limit:.6g}, the largest {config.dtype}"
        fix = "set transport.dtype=bf16, or transport.update=difference"
        raise RoundError("R31", f"update of {name}", found=found, want=want, fix=fix)
    return {name: narrow.view(torch.uint16) if config.dtype == "bf16" else narrow}


def _restored(
    name: str, arrays: Mapping[str, torch.Tensor], dtype: torch.dtype, config: TransportConfig
) -> torch.Tensor:
    """Return an entry after rounding: the site must see what the server will see."""
    value = arrays[name]
    if config.dtype == "int8":
        return value.to(dtype) * _along_first(arrays[name + SCALE].to(dtype), value.dim())
    return (value.view(torch.bfloat16) if config.dtype == "bf16" else value).to(dtype)


def _scale_of(whole: torch.Tensor) -> torch.Tensor:
    """Return the size of a step for each index of the first axis, shape ``(C,)``, float32."""
    if whole.numel() == 0:
        return torch.zeros(whole.shape[:1])
    return (whole.flatten(1).abs().amax(1) / N_STEPS).to(torch.float32)


def _along_first(scale: torch.Tensor, n_dims: int) -> torch.Tensor:
    return scale.reshape(-1, *[1] * (n_dims - 1))


def _require_finite(name: str, value: torch.Tensor) -> None:
    if value.is_floating_point() and not value.isfinite().all():
        fix = "lower train.lr or set train.clip_grad_norm; look at this site's data"
        found = "NaN or infinity"
        raise RoundError("R04", f"update of {name}", found=found, want="finite numbers", fix=fix)


def _require_declared(update: Update, forms: Mapping[str, Form]) -> None:
    fix = "run the same plan and version of fedmri at that site"
    what = f"encoded update of site {update.site}"
    scales = {name for name in update.weights if name.endswith(SCALE)}
    if odd := sorted(forms.keys() - update.weights.keys() | scales - forms.keys()):
        found = f"{len(odd)} names that differ, such as {odd[0]!r}"
        raise RoundError("R03", what, found=found, want="the declared entries", fix=fix)
    for name, want in forms.items():
        value = update.weights[name]
        if Form(value.dtype, tuple(value.shape)) != want:
            found = f"{name} of {value.dtype} {tuple(value.shape)}"
            raise RoundError("R03", what, found=found, want=f"{want.dtype} {want.shape}", fix=fix)
        if name.endswith(SCALE) and not (value.isfinite() & (value >= 0)).all():
            found = f"{name} below 0 or not finite"
            raise RoundError("R30", what, found=found, want="scales of 0 or more", fix=fix)
