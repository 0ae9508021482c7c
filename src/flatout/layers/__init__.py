"""The layers of the call path, one class a file. They know nothing of each other."""
