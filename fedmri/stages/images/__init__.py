"""Stages that change images, by what is fitted over the sites' training scans."""
