"""Logs and metrics. A metrics registry is an object that is passed in, never a global."""
