"""Ways in which data sets are laid out, a file each."""
