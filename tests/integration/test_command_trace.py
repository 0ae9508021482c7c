"""`flatout trace` by the real command, after a run against a provider that fails now and then."""

from __future__ import annotations

import json

from flatout.testing._faults import Faults
from tests.support.command_samples import PLENTY, provider, questions
from tests.support.quick_commands import flatout


def test_a_trace_tells_what_each_attempt_failed_of(tmp_path):
    """After a run with failures a user could not tell what happened to a row without running a collector."""
    questions(tmp_path, 40)
    with provider(faults=Faults(server_error=0.25, reset=0.1, invalid=0.1)) as server:
        run = ("run", "in.jsonl", "-o", "out.jsonl", *PLENTY, *server.options())
        assert flatout(*run, folder=tmp_path).code == 1
    listed = json.loads(flatout("trace", "out.jsonl", "--json", "--limit", "40", folder=tmp_path).out)
    retried = [row for row in listed["rows"] if row["attempts"] > 1 and row["state"] == "answered"]
    assert listed["finished"] == 40
    assert retried
    slowest = retried[0]
    facts = json.loads(flatout("trace", "out.jsonl", slowest["id"], "--json", folder=tmp_path).out)
    assert (facts["row"], facts["trace"]["outcome"]) == (slowest["row"], "answered")
    attempts = [node for node in facts["trace"]["children"] if node["kind"] == "attempt"]
    assert [node["outcome"] for node in attempts] == ["retried"] * (slowest["attempts"] - 1) + ["answered"]
    reasons = {node["detail"].partition(":")[0] for node in attempts[:-1]}
    assert reasons <= {"ServerError", "ProtocolError", "ConnectError"}
    assert facts["trace"]["start"] == 0
    starts = [node["start"] for node in attempts]
    assert starts == sorted(starts)
    assert -0.05 <= starts[0] <= starts[-1] <= facts["trace"]["seconds"]

    failed = flatout("trace", "out.jsonl", "--failed", folder=tmp_path)
    assert (failed.code, failed.err) == (0, "")
    assert "InvalidRequest" in failed.out
    shown = flatout("trace", "out.jsonl.flatout", str(slowest["row"]), folder=tmp_path)
    assert shown.out.startswith(f"out.jsonl.flatout: row {slowest['row']} ({slowest['id']})\n")
    assert "retried · " in shown.out
