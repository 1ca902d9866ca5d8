"""Stages that every plan has; their settings are sections of the plan."""
