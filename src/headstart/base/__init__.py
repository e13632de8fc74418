"""Words and tools that every room may use; knows nothing of learning."""
