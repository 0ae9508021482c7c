"""What went wrong, read from a provider's answer."""
