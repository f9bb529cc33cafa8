"""Pure placement: what fits, where, why not. Functions of values and arrays, no I/O, no clock."""
