"""Values of a label map to classes, by one rule for every scan, whatever values it holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmri.data.target import LabelMap
from fedmri.errors import DataError

WHITE = 255
"""What a mask of one class may hold for 1: programs of pictures store masks black and white."""

TOLERANCE = 1e-3
"""How far a value may be from a whole number: scaling in the header gives 0.999999 for 1."""


def classes_of(voxels: NDArray[np.float32], label_map: LabelMap) -> NDArray[np.int16]:
    """Return the class of each voxel of a label map.

    ``label_map.labels`` says which value is which class. Where it is empty, values are classes as
    they stand, and a mask of one class may hold 255 for 1.

    Args:
        voxels: Values as they were read, any shape.
        label_map: Its classes and the meaning of values.

    Returns:
        Classes from 0 to the number of declared ones, of the same shape.

    Raises:
        DataError: A value is not whole or not declared (D15).
    """
    whole = np.rint(voxels)
    is_whole = np.abs(voxels - whole) <= TOLERANCE * np.maximum(1, np.abs(whole))
    known = label_map.label_values
    rest = known.pop("*", None)
    meaning = {int(value): number for value, number in known.items()}
    if not meaning and rest is None:
        meaning = {number: number for number in range(1, len(label_map.classes) + 1)}
        if len(label_map.classes) == 1:
            meaning[WHITE] = 1
    if WHITE in meaning and not known and (whole == 1).any():
        del meaning[WHITE]  # beside 1 it is something else, such as what is not to count
    meaning.setdefault(0, 0)
    labels = np.full(voxels.shape, -1 if rest is None else rest, dtype=np.int16)
    for value, number in meaning.items():
        labels[whole == value] = number
    if not is_whole.all() or labels.min() < 0:
        raise _undeclared(np.unique(voxels[~is_whole | (labels < 0)]), meaning, label_map)
    return labels


def _undeclared(
    values: NDArray[np.float32], meaning: dict[int, int], label_map: LabelMap
) -> DataError:
    shown = ", ".join(f"{value:.6g}" for value in values[:8])
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    want = f"{', '.join(str(value) for value in sorted(meaning))}"
    whole = values == np.rint(values)
    example = f"{values[0]:.0f}:{label_map.classes[0]}"
    fix = f"say what each value is in target.labels, as in ['{example}'], or correct the map"
    if (whole & (values < 0)).any():
        fix = "write other numbers in place of negative ones, which target.labels cannot name"
    if not whole.all():
        fix = "save the map with whole numbers: a map of probabilities needs a threshold first, "
        fix += "and a picture of classes a format without loss, such as PNG"
    return DataError("D15", "label", found=f"values {shown}{more}", want=want, fix=fix)
