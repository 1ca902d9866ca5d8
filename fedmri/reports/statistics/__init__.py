"""Metrics, their intervals, differences, and what decides a verdict."""
