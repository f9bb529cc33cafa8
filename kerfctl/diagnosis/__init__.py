"""`kerf doctor`: what is read of a cluster (`gather`), and pure checks over it, each one function in a table."""
