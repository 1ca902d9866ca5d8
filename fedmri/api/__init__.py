"""What ``import fedmri`` offers; the command line calls the same."""
