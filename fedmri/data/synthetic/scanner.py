"""Scanners of the embedded data set: from tissues to what a hospital's machine writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torchio import Ghosting

from fedmri.data.synthetic.anatomy import Volume, smooth_field


@dataclass(frozen=True)
class Relaxation:
    """What of a tissue makes its brightness: T1 and T2 in ms, water content against CSF."""

    t1_ms: float
    t2_ms: float
    density: float


TISSUES: dict[float, dict[str, Relaxation]] = {
    1.5: {
        "csf": Relaxation(4000, 2000, 1.0),
        "grey": Relaxation(1124, 95, 0.82),
        "white": Relaxation(884, 72, 0.70),
        "bone": Relaxation(400, 20, 0.12),
        "fat": Relaxation(343, 58, 0.55),
        "muscle": Relaxation(1008, 44, 0.75),
    },
    3.0: {
        "csf": Relaxation(4300, 2000, 1.0),
        "grey": Relaxation(1820, 99, 0.82),
        "white": Relaxation(1084, 69, 0.70),
        "bone": Relaxation(450, 20, 0.12),
        "fat": Relaxation(382, 68, 0.55),
        "muscle": Relaxation(1412, 50, 0.75),
    },
}
"""By field strength in tesla.

Source:
    Stanisz et al. 2005, doi:10.1002/mrm.20605 (brain, muscle); de Bazelaire et al. 2004,
    doi:10.1148/radiol.2303021331 (fat); CSF, bone and densities are round figures of textbooks.
"""


@dataclass(frozen=True)
class Scanner:
    """A machine, its two sequences and its faults.

    Attributes:
        name: Make, invented.
        field_tesla: 1.5 or 3.0.
        t1w_tr_ms: Repetition time of the spoiled gradient echo.
        t1w_flip_deg: Its flip angle: small angles weight water content, large ones T1.
        flair_te_ms: Echo time of the fluid-attenuated inversion recovery.
        flair_ti_ms: Its inversion time.
        resolution: Voxel size along x, y and z over that of the data set, 1 or more.
        bias: Scale of the receive field's logarithm.
        noise: Noise of one complex channel over the signal of white matter.
        n_ghosts: Ghosts along the phase axis; 0 is none.
        ghosting: Strength of the ghosts, 0 to 1.
        gain: Stored units for the signal of white matter.
        lowest_mm: Lower end of the field of view, in head coordinates.
        orientation: Axis codes in which files are stored.
    """

    name: str
    field_tesla: float
    t1w_tr_ms: float
    t1w_flip_deg: float
    flair_te_ms: float
    flair_ti_ms: float
    resolution: tuple[float, float, float]
    bias: float
    noise: float
    n_ghosts: int
    ghosting: float
    gain: float
    lowest_mm: float
    orientation: str


FLAIR_TR_MS = 9000.0
T1W_TE_MS = 4.0

MODELS = (
    Scanner("Aurora", 3.0, 18, 22, 110, 2500, (1.0, 1.0, 1.0), 0.12, 0.04, 0, 0.0, 240, -84, "RAS"),
    Scanner("Boreal", 1.5, 11, 16, 90, 2350, (1.2, 1.2, 1.6), 0.25, 0.09, 0, 0.0, 90, -60, "LAS"),
    Scanner("Cirrus", 3.0, 9, 9, 130, 2600, (1.5, 1.0, 1.0), 0.40, 0.06, 4, 0.5, 420, -84, "PSR"),
    Scanner("Dorado", 1.5, 25, 32, 120, 2200, (1.0, 1.8, 1.0), 0.18, 0.12, 0, 0.0, 150, -70, "RAS"),
    Scanner("Equinox", 3.0, 14, 12, 105, 2300, (1.3, 1.3, 1.3), 0.5, 0.08, 6, 0.6, 330, -56, "LPS"),
)


def scanner_of_site(index: int, random: np.random.Generator) -> Scanner:
    """Return the scanner of the site with this index: each make in turn, tuned by the site."""
    model = MODELS[index % len(MODELS)]
    tuned = random.uniform(0.93, 1.07, size=4)
    return replace(
        model,
        t1w_flip_deg=round(model.t1w_flip_deg * tuned[0], 1),
        flair_te_ms=round(model.flair_te_ms * tuned[1], 1),
        noise=model.noise * tuned[2],
        gain=model.gain * tuned[3],
    )


def signals(scanner: Scanner, modality: str, tissues: Mapping[str, Relaxation]) -> dict[str, float]:
    """Return the signal of each tissue in ``T1w`` or ``FLAIR``, in units of full magnetisation.

    T1w is a spoiled gradient echo in steady state, FLAIR a spin echo after an inversion.

    Source:
        Bernstein, King and Zhou 2004, Handbook of MRI Pulse Sequences, sections 14.1 and 14.2.
    """
    signal = _spoiled_echo if modality == "T1w" else _inversion_recovery
    return {name: signal(scanner, tissue) for name, tissue in tissues.items()}


def _spoiled_echo(scanner: Scanner, tissue: Relaxation) -> float:
    flip = np.radians(scanner.t1w_flip_deg)
    left = np.exp(-scanner.t1w_tr_ms / tissue.t1_ms)
    steady = np.sin(flip) * (1 - left) / (1 - np.cos(flip) * left)
    return float(tissue.density * steady * np.exp(-T1W_TE_MS / tissue.t2_ms))


def _inversion_recovery(scanner: Scanner, tissue: Relaxation) -> float:
    inverted = 2 * np.exp(-scanner.flair_ti_ms / tissue.t1_ms)
    recovered = abs(1 - inverted + np.exp(-FLAIR_TR_MS / tissue.t1_ms))
    return float(tissue.density * recovered * np.exp(-scanner.flair_te_ms / tissue.t2_ms))


def acquire(
    scanner: Scanner, signal: Volume, white: float, random: np.random.Generator
) -> NDArray[np.int16]:
    """Return the stored image of a signal: receive field, ghosts, resolution, noise and gain.

    Args:
        scanner: The machine.
        signal: What the tissues emit, shape ``(X, Y, Z)``.
        white: Signal of white matter, the unit of noise and gain.
        random: Source of this image's draws.

    Returns:
        Magnitude in stored units, of the scanner's own matrix.
    """
    received = signal / white * np.exp(scanner.bias * smooth_field(signal.shape, 2, random))
    tensor = torch.from_numpy(received)[None]
    if scanner.n_ghosts:
        strength = scanner.ghosting * float(random.uniform(0.5, 1.0))
        tensor = Ghosting(scanner.n_ghosts, axis=1, intensity=strength, restore=0.02)(tensor)
    measured = limit_resolution(tensor[0].numpy(), scanner.resolution)
    return np.round(scanner.gain * rician(measured, scanner.noise, random)).astype(np.int16)


def limit_resolution(volume: Volume, factors: tuple[float, float, float]) -> Volume:
    """Return what a smaller matrix sees of a volume: k-space beyond its edge was never sampled."""
    kept = tuple(max(8, round(n / f)) for n, f in zip(volume.shape, factors, strict=True))
    if kept == volume.shape:
        return volume
    spectrum = np.fft.fftshift(np.fft.fftn(volume))
    starts = [n // 2 - m // 2 for n, m in zip(volume.shape, kept, strict=True)]
    window = tuple(slice(start, start + m) for start, m in zip(starts, kept, strict=True))
    coarse = np.fft.ifftn(np.fft.ifftshift(spectrum[window])).real
    return np.asarray(coarse * (coarse.size / volume.size), dtype=np.float32)


def rician(signal: Volume, sigma: float, random: np.random.Generator) -> Volume:
    """Return the magnitude of a signal with Gaussian noise in both complex channels.

    Where nothing emits, its mean is ``sigma * sqrt(pi / 2)``.

    Source:
        Gudbjartsson and Patz 1995, doi:10.1002/mrm.1910340618.
    """
    real = signal + sigma * random.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * random.standard_normal(signal.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)
