"""Leakage meter: attacks on a site's own update, on its own machine, before the update leaves.

A high score shows that the update gives patients away. A low one shows that these attacks failed,
which is no proof: others may succeed.
"""
