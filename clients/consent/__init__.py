"""What a site agrees to: plans, limits, and patients who withdrew."""
