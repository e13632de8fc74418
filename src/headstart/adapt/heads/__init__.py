"""Heads fitted on cached features, and the choice between them by evidence."""
