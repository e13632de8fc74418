"""Which pretrained network will serve this data best: scores, a prior, and how they are combined."""
