"""The command line. One file a verb; nothing heavy is imported before it is needed."""
