"""Weight files, read without running anything in them. One module per format; ``checkpoint`` chooses by content."""
