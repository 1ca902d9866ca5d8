"""A site that takes orders from sealed files in a shared folder, and answers by the same."""
