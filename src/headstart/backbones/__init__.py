"""Pretrained networks: cards (facts, no torch), the catalogue, sources of weights, safe loading."""
