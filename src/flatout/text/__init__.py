"""Handle other people's text: remove keys, show control characters, read odd JSON, describe changes."""
