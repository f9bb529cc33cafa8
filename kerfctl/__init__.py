"""The `kerf` command: one file per verb. The only place that may import the daemons."""
