"""A model as an ONNX file: whole, with weights of eight bits, or with its small weights at zero."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from fedmri.export.called import Called
from fedmri.export.capture import INPUT, OUTPUT, PACKAGES, quiet_exporters
from fedmri.export.subject import Subject
from fedmri.machine.extras import require_packages


def write_onnx(subject: Subject, folder: Path) -> Path:
    """Write ``model.onnx``."""
    path = folder / "model.onnx"
    path.write_bytes(subject.onnx)
    return path


def write_int8(subject: Subject, folder: Path) -> Path:
    """Write ``model-int8.onnx``: weights of eight bits, and activations scaled as they come.

    Source:
        Jacob et al. 2018, arXiv:1712.05877; dynamic quantisation of onnxruntime.
    """
    require_packages("export", PACKAGES, "an export to int8")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / "model-int8.onnx"
    with tempfile.TemporaryDirectory(prefix="fedmri-") as place, quiet_exporters():
        whole = write_onnx(subject, Path(place))
        # unsigned weights: onnxruntime convolves no others on a CPU
        quantize_dynamic(whole, path, weight_type=QuantType.QUInt8)
    return path


def write_pruned(subject: Subject, folder: Path, amount: float) -> Path:
    """Write ``model-pruned.onnx``: the smallest weights of all layers together are zero.

    Biases and norms stay as they are.

    Args:
        subject: The model.
        folder: Where to.
        amount: Share of the weights that become zero.

    Source:
        Han et al. 2015, arXiv:1506.02626, without training again.
    """
    require_packages("export", PACKAGES, "an export with pruned weights")
    import onnx

    model = onnx.load_from_string(subject.onnx)
    arrays = [(value, onnx.numpy_helper.to_array(value)) for value in model.graph.initializer]
    weights = [(v, a) for v, a in arrays if a.ndim > 1 and a.dtype == np.float32]
    limit = np.quantile(np.concatenate([np.abs(a).ravel() for _, a in weights]), amount)
    for value, array in weights:
        kept = np.where(np.abs(array) > limit, array, np.float32(0))
        value.CopyFrom(onnx.numpy_helper.from_array(kept, value.name))
    path = folder / "model-pruned.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def read_onnx(path: Path) -> Called:
    """Return a written file as a network, run by onnxruntime on as many threads as torch."""
    require_packages("export", PACKAGES, "running ONNX")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def call(image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: image.numpy()})[0])

    return Called(call)
