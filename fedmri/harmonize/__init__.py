"""Harmonization: taking out of features and images what the scanner of a site put in.

Every method that learns from several sites is a ``SumStage``: sites give sums, the server adds them
and answers with what all share. See ``fedmri/harmonize/sums.py``.
"""
