"""Programs that measure what Kerf claims about speed and packing. The last line of each is one JSON object."""
