"""A saved model: a folder that opens anywhere, is checked byte by byte, and predicts what was evaluated."""
