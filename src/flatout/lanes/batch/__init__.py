"""The batch lane: rows go to the provider's batch endpoint, and the run file is the ledger of what was submitted."""
