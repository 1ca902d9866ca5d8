"""Parts for fedmri, each in a file of its own."""
