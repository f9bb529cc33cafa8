"""What cards cost: the one price list of Kerf, its document and its look-up. Pure; `kerf.config.prices` reads files."""
