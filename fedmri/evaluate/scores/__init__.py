"""Scores of one model with their intervals: classes, ranks, masks, values, agreement."""
