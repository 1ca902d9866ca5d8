"""Networks with one answer a voxel that are put together from blocks of MONAI."""
