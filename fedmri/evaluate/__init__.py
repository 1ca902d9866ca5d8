"""Estimators of a study as pure functions on arrays: scores, intervals, verdicts, claims.

Every function takes arrays and returns numbers. None reads a file, and none loads PyTorch when it
is imported. The report of a run is built from ``fedmri.reports``, which calls these functions.
"""
