"""From a scan to a prepared array in the cache, and the way back."""
