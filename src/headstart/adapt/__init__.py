"""How a pretrained network becomes a model of your own: heads on cached features, and their calibration."""
