"""What is predicted: one small file per kind of target."""
