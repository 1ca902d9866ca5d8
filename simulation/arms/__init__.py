"""Arms of a comparison: made, trained once, kept."""
