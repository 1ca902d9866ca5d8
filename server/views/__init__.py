"""What a coordinator sees: status, pages, reports, and results to take away."""
