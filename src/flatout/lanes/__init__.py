"""The ways in which the rows of a run may be answered: live, flex (cheaper, slower) or batch (cheaper, within a day)."""
