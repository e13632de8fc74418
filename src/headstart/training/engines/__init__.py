"""Where training runs: one process, or several that share every batch."""
