"""Faults as pure functions: lines of the kernel log become faults, and faults become one event a code and minute.

What belongs here: the shapes in which drivers write faults, the tables of their codes, and windows. Reading a log is a
probe's; what happens to a card is `kerf.probes.recovery`'s; who is evicted is the scheduler's.
"""
