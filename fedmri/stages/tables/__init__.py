"""Stages that work on a site's table of features instead of scans."""
