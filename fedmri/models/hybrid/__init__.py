"""Networks of several kinds joined: two paths, slices in sequence, parcels, modalities."""
