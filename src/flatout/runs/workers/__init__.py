"""``flatout run --workers N``: several processes ask the rows of one run.

The parent reads the input, and it alone writes the run file and the output. It hands calls to the workers, each a
process with a whole engine of its own, and writes what they answer. Nothing is shared in memory: one socket joins the
parent and each worker (`channel`, `messages`). A worker notes each attempt with the parent before it sends it. So the
run file knows of every call that was paid for, whoever is killed.

`team` is the parent's side, `worker` a worker's program, `remote` the run file and the purse as a worker sees them.
"""
