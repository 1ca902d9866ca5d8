"""From prepared scans to the batches of training and scoring."""
