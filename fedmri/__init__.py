"""Federated training on multi-site MRI: nothing heavy is imported here."""
