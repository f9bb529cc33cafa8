"""What a daemon is started with: settings (one loader), policy files, certificates, TLS, the door of its service."""
