"""`kerf ui`: the way from a browser on this machine to the scheduler's live page."""
