"""What hybrid networks are joined from: a reader of slices, tokens, recurrence, parcels."""
