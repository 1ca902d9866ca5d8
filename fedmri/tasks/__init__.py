"""What can be learned: a file each, of data, training, scores and words."""
