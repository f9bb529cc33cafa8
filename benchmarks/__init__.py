"""What Kerf claims about speed and packing, as programs. Each ends with one JSON object on its last line."""
