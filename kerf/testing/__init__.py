"""Shipped builders and fakes for tests. Product code never imports this package."""
