"""``flatout report``: a run, or several, as one self-contained page that opens from disk.

`gather` makes a `Report` from the run files, plain numbers and words. `page` makes the page from it. The page's own
scripts and styles are in ``assets``.
"""
