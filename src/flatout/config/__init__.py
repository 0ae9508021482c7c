"""Configuration: flatout.toml, keyword arguments, the user's folders, and which files are trusted."""
