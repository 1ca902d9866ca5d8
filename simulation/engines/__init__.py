"""Where simulated sites run: in this process, in workers, or on Ray."""
