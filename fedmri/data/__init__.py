"""From a folder of scans to checked, patient-disjoint, cached batches."""
