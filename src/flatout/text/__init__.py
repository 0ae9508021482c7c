"""Text of others, made fit for people, logs and files: keys taken out, control characters shown, odd JSON read."""
