"""`kerf bill`: use and costs from the hours' records, through a local cache of those that are closed."""
