"""The node's cards: read from the hardware, published in the node's annotations."""
