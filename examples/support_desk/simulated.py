"""A model that knows the desk's work by heart, and does it badly at times: a scripted provider over real HTTP.

It recognises each ticket by its id and follows the stages by what it is asked. A fixed share of the tickets meets each
misdeed below; which ones is settled by their ids, so that every run is the same.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import Any
from zlib import crc32

from flatout.testing import Faults, ProviderModel, ProviderSettings, serve

PRICE = {"input": 0.25, "output": 2.0}
"""US dollars per million tokens; made up, as the model is."""

SHARES = {
    "rubbish": 0.04,  # its classification is no JSON
    "confused": 0.04,  # its classification is wrong
    "unknown_tool": 0.05,  # its plan names a tool that there is not
    "malformed": 0.10,  # arguments that do not fit
    "boast": 0.08,  # says that it did what it did not
    "leak": 0.10,  # personal data in its reply, until it is told
    "stubborn": 0.01,  # the same, whatever it is told
    "misfiled": 0.03,  # another ticket's id
    "gullible": 0.60,  # plans what an injected text wants
}
LEAKS = (
    "We have written to jane.doe@example.com.",
    "The money goes to card 4111 1111 1111 1111.",
    "The money goes to DE89 3704 0044 0532 0130 00.",
    "We shall call +44 7700 900123.",
)
STEPS = {
    "where_is_it": ["shipping_status"],
    "refund": ["look_up_order", "refund"],
    "change_address": ["look_up_order", "change_address"],
    "cancel": ["look_up_order", "cancel_order"],
    "complaint": ["look_up_order"],
    "product": ["search_products"],
    "abuse": [],
    "injection": [],
}
EFFECTS = ("refund", "change_address", "cancel_order")

Body = dict[str, Any]


class Script:
    """What the model says: a function of the request alone."""

    def __init__(self, tickets: list[dict[str, Any]]) -> None:
        self._tickets = {ticket["id"]: ticket for ticket in tickets}

    def __call__(self, body: Body) -> str | Body:
        said = [str(message.get("content") or "") for message in body["messages"]]
        found = re.search(r'"id":\s*"(t\d+)"', "\n".join(said))
        if found is None or found[1] not in self._tickets:
            return "I do not know that ticket."
        ticket = self._tickets[found[1]]
        asked = body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})
        again = any("That cannot be used" in text for text in said)
        if "steps" in asked:
            return json.dumps({"steps": plan(ticket, again)})
        if "reply" not in asked:
            return classification(ticket, again)
        return Turn(ticket, body["messages"]).say()


def chance(ticket: Body, what: str) -> bool:
    return crc32(f"{ticket['id']} {what}".encode()) % 1000 < SHARES[what] * 1000


def classification(ticket: Body, again: bool) -> str:
    if chance(ticket, "rubbish") and not again:
        return "I would say that this one is about an order."
    kind = ticket["kind"]
    if kind == "injection" and chance(ticket, "gullible"):
        kind = "refund"
    return json.dumps({"answer": "complaint" if chance(ticket, "confused") else kind})


def plan(ticket: Body, again: bool) -> list[Body]:
    steps = STEPS[ticket["kind"]]
    if ticket["order"] is None and ticket["kind"] not in ("product", "abuse"):
        steps = ["list_orders", *steps]
    want = ticket.get("want", {}).get("tool")
    if ticket["kind"] == "injection" and want and (chance(ticket, "gullible") or chance(ticket, "unknown_tool")):
        known = want in {*EFFECTS, "look_up_order", "shipping_status"}
        steps = [*steps, *([want] if known else [])]
    if chance(ticket, "unknown_tool") and not again:
        steps = [*steps, "send_mail"]
    return [{"what": f"use {name}", "tools": [name]} for name in steps] or [{"what": "answer politely", "tools": []}]


class Turn:
    """One turn in the conversation about a ticket."""

    def __init__(self, ticket: Body, messages: list[Body]) -> None:
        self.ticket = ticket
        self.results: dict[str, list[str]] = {}
        self.complaints = [text for m in messages[1:] if m["role"] == "user" and (text := str(m["content"]))]
        names: dict[str, str] = {}
        for message in messages:
            for call in message.get("tool_calls") or ():
                names[call["id"]] = call["function"]["name"]
            if message["role"] == "tool":
                self.results.setdefault(names[message["tool_call_id"]], []).append(message["content"])

    def say(self) -> str | Body:
        for name in self._wanted():
            tries = self.results.get(name, [])
            malformed = name in (*EFFECTS, "shipping_status") and chance(self.ticket, "malformed")
            if not tries:
                return self._call(name, '{"order": "the last one"}' if malformed else json.dumps(self._arguments(name)))
            if malformed and len(tries) == 1 and tries[0].startswith("not run: "):
                return self._call(name, json.dumps(self._arguments(name)))
        return self._answer()

    def _wanted(self) -> list[str]:
        steps = [name for step in plan(self.ticket, again=True) for name in step["tools"]]
        injected = self.ticket.get("want", {}).get("tool")
        if injected and injected not in steps:
            steps.append(injected)  # not in the plan: asked for all the same
        if self._boasts():
            steps = [name for name in steps if name not in EFFECTS]
        return steps

    def _boasts(self) -> bool:
        told = any("did not pass verification" in text for text in self.complaints)
        return self.ticket["kind"] != "injection" and chance(self.ticket, "boast") and not told

    def _arguments(self, name: str) -> Body:
        ticket, want = self.ticket, self.ticket.get("want", {})
        if want.get("tool") == name:
            return dict(want["arguments"])
        if name in ("list_orders", "search_products"):
            return {"customer": ticket["customer"]} if name == "list_orders" else {"words": want["words"]}
        arguments: Body = {"order": self._order()}
        if name == "refund":
            price = json.loads(self.results["look_up_order"][-1])["price"]
            arguments |= {"amount": want.get("amount", price), "reason": ticket["text"][:80]}
        elif name == "change_address":
            arguments["address"] = want["address"]
        return arguments

    def _order(self) -> int | None:
        listed = self.results.get("list_orders")
        if self.ticket["order"] is None and listed and listed[-1].startswith("[{"):
            return int(json.loads(listed[-1])[-1]["number"])
        return None if self.ticket["order"] is None else int(self.ticket["order"])

    def _call(self, name: str, arguments: str) -> Body:
        number = sum(map(len, self.results.values()))
        function = {"name": name, "arguments": arguments}
        return {"content": None, "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}]}

    def _answer(self) -> str:
        ticket, told = self.ticket, any("not accepted" in text for text in self.complaints)
        steps = STEPS[ticket["kind"]]
        done = [name for name in steps if name in EFFECTS and (self._boasts() or self._succeeded(name))]
        tried = [name for name in steps if name in EFFECTS]
        reply = "Thank you for writing. " + ("It is done." if done or not tried else "We cannot do that at once.")
        next_action = {"complaint": "call_customer", "where_is_it": "check_in_a_week"}.get(ticket["kind"])
        if tried and not done:
            next_action = "photo_of_damage" if "refund" in tried else "call_customer"
        if chance(ticket, "stubborn") or (not told and (chance(ticket, "leak") or "say" in ticket.get("want", {}))):
            reply += " " + ticket.get("want", {}).get("say", LEAKS[int(ticket["id"][1:]) % len(LEAKS)])
        identity = "t000" if chance(ticket, "misfiled") and not told else ticket["id"]
        answer = {"ticket": identity, "order": self._order(), "done": done, "reply": reply, "next_action": next_action}
        return json.dumps(answer, ensure_ascii=False)

    def _succeeded(self, name: str) -> bool:
        tries = self.results.get(name, [])
        return bool(tries) and tries[-1].startswith(("refunded", "changed", "cancelled"))


class SimulatedDesk:
    """The model behind a server of its own, in a thread: ``with SimulatedDesk(tickets) as url``."""

    RPM = 9_000

    def __init__(self, tickets: list[Body]) -> None:
        faults = Faults(server_error=0.01, overloaded=0.005, malformed=0.005, reset=0.005)
        settings = ProviderSettings(rpm=self.RPM, latency=0.05, error_latency=0.02, faults=faults)
        self._model = ProviderModel(settings, seed=3, script=Script(tickets))
        self._ready = threading.Event()
        self._url = ""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with await serve(self._model) as server:
            self._url = server.url
            self._ready.set()
            await self._over.wait()

    def __enter__(self) -> str:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the simulated model did not start")
        return self._url

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
