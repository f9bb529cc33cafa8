"""The live state of one cluster behind one lock: feed, ledger, desk and planning are its doors.

It belongs here if it must be read or written under the lock. It does not if it can be computed from a value that a door
hands out (core, solver), or if it talks to the API server (placing, kueue). Nothing here does I/O.
"""
