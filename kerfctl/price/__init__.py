"""`kerf price`: what an hour of a card costs, and what a million tokens of a model do."""
