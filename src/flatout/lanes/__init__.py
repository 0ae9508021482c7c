"""The ways to answer the rows of a run: live, flex (cheaper, slower) or batch (cheaper, within a day)."""
