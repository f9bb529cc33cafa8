"""`kerf cluster` and `kerf fleet`: clusters join and leave, and one process manages them."""
