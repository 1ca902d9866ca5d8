"""Networks with one answer a voxel."""
