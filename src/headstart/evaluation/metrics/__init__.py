"""One score, one function; each takes a matrix of resample weights and scores all resamples at once."""
