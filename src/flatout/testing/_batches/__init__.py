"""Batch endpoints of the simulated provider: files and jobs whose rows the live model answers, with the vendors' rules.

- `_settings` says how batches behave, and which faults they have.
- `_request` is one request about batches, and a form that uploads a file.
- `_job` is one batch as a function of time; `_shelf` has all batches and files, and lets each organisation see its own.
- `_openai` and the others are the vendors' formats: they check requests, and describe jobs and results.
- `_desk` finds the format for a request.
"""
