"""What every HTTP server of Kerf needs: a listener with limits, limits on requests in flight, TLS and certificates."""
