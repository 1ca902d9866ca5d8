"""The processes of a site, its folder and keys, and their health."""
