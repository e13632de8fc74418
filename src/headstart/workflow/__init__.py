"""The stories: inspect, fit, evaluate, predict. One file each, read top to bottom."""
