"""What this machine gives: files, processes, pages for it alone, packages."""
