"""What a client is told: flatout.toml, keyword arguments, the user's folders, and which files may be listened to."""
