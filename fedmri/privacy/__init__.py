"""Differential privacy of patients: what it costs, what was spent, the steps that pay it."""
