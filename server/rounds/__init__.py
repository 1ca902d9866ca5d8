"""The rounds of a run: what is asked, accepted, combined and kept."""
