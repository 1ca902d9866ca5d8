"""Federated training on multi-site MRI: the library and the command, which import nothing heavy here."""
