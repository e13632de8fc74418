"""Predictions → Evaluation. numpy only: nothing here has ever seen a model."""
