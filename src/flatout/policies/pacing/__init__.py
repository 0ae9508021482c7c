"""When a target may be sent the next call."""
