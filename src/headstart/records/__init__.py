"""What a run leaves on disk: frozen dataclasses written as JSON, arrays beside them. Computes nothing."""
