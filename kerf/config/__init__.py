"""What a daemon is started with: settings (one loader) and policy files."""
