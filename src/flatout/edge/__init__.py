"""The edge: it turns each call's outcome into exactly one result."""
