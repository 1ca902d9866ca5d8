"""The YAML choices of an experiment, found by Hydra as a package."""
