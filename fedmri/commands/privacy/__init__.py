"""The command ``fedmri privacy`` and its sub-commands."""
