"""The progress of many calls: counted, put into words, and shown."""
