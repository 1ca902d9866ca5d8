"""Networks by name, and nothing but torch."""

from fedmri.models.build import build_network, n_parameters
from fedmri.models.registry import model_names
from fedmri.models.weights import layout, load_weights, weights

__all__ = ["build_network", "layout", "load_weights", "model_names", "n_parameters", "weights"]
