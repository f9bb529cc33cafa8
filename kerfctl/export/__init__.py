"""`kerf export`: what others read of Kerf."""
