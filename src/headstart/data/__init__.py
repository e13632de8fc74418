"""Files become a Dataset of decoded examples: readers, decoding, audit, split. No torch."""
