"""Use of cards over time, and what it costs: intervals, hours, bills, tokens and their price. Pure arithmetic.

All of it is in integers or `Decimal`, so that allocated and idle always add up to the cost of the cards.
"""
