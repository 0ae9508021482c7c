"""The edge: what turns many calls into results, one by one, and never loses one."""
