"""What a backbone eats: input specifications (no torch) and the code that makes such inputs."""
