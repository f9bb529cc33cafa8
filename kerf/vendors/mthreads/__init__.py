"""Moore Threads: a card of 16 cores and 96 units of memory."""
