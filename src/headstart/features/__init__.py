"""One pass of a frozen network over the data, by the fastest runner, into a cache that never expires."""
