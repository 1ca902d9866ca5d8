"""Convolutions in bfloat16 on a CPU, where they can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

LEAST_SIDE = 4
"""Voxels along each axis of an image."""
MOST_STRIDE = 2


class TrustedConvolutions(TorchFunctionMode):
    """Lets all convolutions but the trusted ones compute in float32, under a CPU's autocast.

    With PyTorch 2.13, gradients of bfloat16 kernels in small images were read from memory that
    nobody had written: not a number, or another number each time. Some kernels ended the process.
    Trusted is what 8,000 random shapes showed no such thing of: one group, no dilation, a stride of
    1 or 2, and an image larger than the kernel along each axis.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch; one over a small image with its tensors as float32."""
        given = kwargs or {}
        is_trusted = _TRUSTED.get(func)
        if is_trusted is None or is_trusted(*args, **given):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_plain, args), **{name: _plain(one) for name, one in given.items()})


def _plain(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


def _is_trusted(  # noqa: PLR0913  # as torch.conv2d
    input: torch.Tensor,  # torch's name
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> bool:
    sides = zip(input.shape[2:], weight.shape[2:], strict=True)
    is_large = all(side >= max(LEAST_SIDE, kernel + 1) for side, kernel in sides)
    return is_large and groups == 1 and _most(dilation) == 1 and _most(stride) <= MOST_STRIDE


def _is_transposed_trusted(  # noqa: PLR0913  # as torch.conv_transpose2d
    input: torch.Tensor,  # torch's name
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> bool:
    return _is_trusted(input, weight, bias, stride, padding, dilation, groups)


def _most(numbers: int | Sequence[int]) -> int:
    return numbers if isinstance(numbers, int) else max(numbers)


_TRUSTED: dict[Any, Callable[..., bool]] = {
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), _is_trusted),
    **dict.fromkeys(
        (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
        _is_transposed_trusted,
    ),
}
