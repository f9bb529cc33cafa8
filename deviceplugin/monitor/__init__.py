"""What containers use: read from ledgers and the driver, shown as metrics and `/top`. It admits nothing."""
