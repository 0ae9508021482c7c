"""The shop's database: customers, products, orders, and what the desk has done to them.

Every change is written together with the idempotency key of the step that makes it, and keys are UNIQUE: a step that
is repeated after a crash finds its own row and changes nothing.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS customers (id TEXT PRIMARY KEY, name TEXT, mail TEXT);
CREATE TABLE IF NOT EXISTS products (name TEXT PRIMARY KEY, price REAL, about TEXT);
CREATE TABLE IF NOT EXISTS orders (
    number INTEGER PRIMARY KEY, customer TEXT, product TEXT, price REAL, state TEXT, address TEXT
);
CREATE TABLE IF NOT EXISTS effects (key TEXT NOT NULL UNIQUE, kind TEXT, number INTEGER, amount REAL, address TEXT);
CREATE TABLE IF NOT EXISTS approvals (number INTEGER, amount REAL, approved INTEGER, reason TEXT);
CREATE TABLE IF NOT EXISTS outbox (
    ticket TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, done TEXT, reply TEXT, next_action TEXT
);
"""

PRODUCTS = {
    "kettle": (39.0, "1.7 l, switches itself off when it is empty"),
    "headphones": (79.0, "over the ear, with a jack and Bluetooth 5.3"),
    "backpack": (64.0, "32 l, 48 x 30 x 19 cm, hand luggage on most airlines"),
    "desk": (229.0, "folds flat, 11.5 kg, 100 x 55 cm"),
    "lamp": (34.0, "E14 socket, a bulb is in the box"),
    "blender": (89.0, "900 W, crushes ice, 86 dB"),
    "thermos": (24.0, "0.5 l, 7 cm across"),
    "coffee machine": (349.0, "takes beans and ground coffee, no capsules"),
    "watch": (159.0, "crown on the right, can be worn on either wrist"),
    "keyboard": (99.0, "German, English, Czech and Polish layouts"),
    "camera": (549.0, "24 megapixels; the smaller model has 16 and no viewfinder"),
    "scale": (44.0, "shows the weight without an app or an account"),
    "pillow": (24.0, "polyester filling, no down, washable at 60 degrees"),
    "jacket": (119.0, "machine wash at 30 degrees, do not tumble"),
    "toaster": (49.0, "cable of 85 cm"),
    "puzzle": (19.0, "1,000 pieces, from 9 years on"),
    "chair": (189.0, "height and armrests can be set"),
    "shoes": (84.0, "sizes 36 to 47, half sizes from 39 to 44"),
    "monitor": (279.0, "27 inches, back in stock in two weeks"),
    "treadmill": (699.0, "folds to 18 cm"),
    "mug": (12.0, "0.3 l, stoneware"),
    "charger": (29.0, "65 W; a power bank lasts longer on a hike"),
}
SOLD = {  # what the tickets say of their orders; all of it has arrived
    5002: "blender", 5005: "headphones", 5009: "mug", 5011: "jacket", 5019: "monitor", 5021: "pillow",
    5029: "headphones", 5034: "desk", 5038: "shoes", 5044: "watch", 5063: "coffee machine", 5086: "backpack",
    5096: "toaster", 5100: "lamp", 5110: "keyboard", 5114: "camera", 5127: "kettle", 5131: "thermos", 5137: "puzzle",
    5155: "chair", 5188: "scale", 5199: "chair",
}  # fmt: skip
STATES = ("processing", "packed", "shipped", "delivered")


class Shop:
    """One connection, used from the event loop: each method is one short transaction.

    Args:
        path: the SQLite file; filled with customers and orders when it is new.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10.0)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.split(";"):
                self._db.execute(statement)
            if self._one("SELECT count(*) AS n FROM orders")["n"] == 0:
                self._fill(random.Random(7))

    def close(self) -> None:
        self._db.close()

    # -- reading -------------------------------------------------------------------------------------------------------

    def order(self, number: int) -> dict[str, Any]:
        """An order, without its customer's data.

        Raises:
            LookupError: there is none.
        """
        row = self._one("SELECT number, product, price, state, address FROM orders WHERE number = ?", number)
        if row is None:
            raise LookupError(f"there is no order {number}")
        return dict(row)

    def owner(self, number: Any) -> str | None:
        row = self._one("SELECT customer FROM orders WHERE number = ?", number)
        return row and str(row["customer"])

    def orders_of(self, customer: str) -> list[dict[str, Any]]:
        rows = self._db.execute("SELECT number, product, state FROM orders WHERE customer = ? ORDER BY 1", (customer,))
        return [dict(row) for row in rows]

    def products(self, words: str) -> list[dict[str, Any]]:
        rows = self._db.execute("SELECT * FROM products WHERE instr(lower(?), name)", (words,))
        return [dict(row) for row in rows]

    def effect(self, kind: str, number: int | None) -> dict[str, Any] | None:
        """What was done to an order, if it was."""
        row = self._one("SELECT * FROM effects WHERE kind = ? AND number = ?", kind, number)
        return row and dict(row)

    def reply(self, ticket: str) -> dict[str, Any] | None:
        """What goes out to the customer."""
        row = self._one("SELECT * FROM outbox WHERE ticket = ?", ticket)
        return row and dict(row)

    # -- changing ------------------------------------------------------------------------------------------------------

    def refund(self, number: int, amount: float, key: str) -> None:
        """Pay back a part of what an order cost.

        Raises:
            ValueError: there is not so much left of it.
        """
        with self._once(key, "refund", number, amount=amount) as new:
            paid = self._one("SELECT sum(amount) AS n FROM effects WHERE number = ?", number)["n"]
            left = self.order(number)["price"] - paid + amount
            if new and amount > left:
                raise ValueError(f"of order {number}, {left:.2f} is left to be refunded, not {amount:.2f}")

    def cancel(self, number: int, key: str) -> None:
        """Cancel an order that has not left the house.

        Raises:
            ValueError: it has.
        """
        with self._once(key, "cancel_order", number) as new:
            if new:
                self._still_here(number)
                self._db.execute("UPDATE orders SET state = 'cancelled' WHERE number = ?", (number,))

    def move(self, number: int, address: str, key: str) -> None:
        """Send an order elsewhere, if it has not left the house.

        Raises:
            ValueError: it has.
        """
        with self._once(key, "change_address", number, address=address) as new:
            if new:
                self._still_here(number)
                self._db.execute("UPDATE orders SET address = ? WHERE number = ?", (address, number))

    def approve(self, number: int, amount: float, approved: bool, reason: str) -> None:
        self._db.execute("INSERT INTO approvals VALUES (?, ?, ?, ?)", (number, amount, approved, reason))

    def send(self, ticket: str, key: str, done: str, reply: str, next_action: str | None) -> None:
        """Put a reply into the outbox; a later one for the same ticket takes its place."""
        self._db.execute(
            "INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?, ?)", (ticket, key, done, reply, next_action)
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()

    @contextmanager
    def _once(
        self, key: str, kind: str, number: int, *, amount: float = 0.0, address: str | None = None
    ) -> Iterator[bool]:
        """A transaction around an effect, and whether it is new: a repeated step finds its key there."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            row = (key, kind, number, amount, address)
            yield self._db.execute("INSERT OR IGNORE INTO effects VALUES (?, ?, ?, ?, ?)", row).rowcount == 1

    def _still_here(self, number: int) -> None:
        state = self.order(number)["state"]
        if state in ("shipped", "delivered", "cancelled"):
            raise ValueError(f"order {number} is {state} already")

    def _fill(self, chance: random.Random) -> None:
        people = [(f"C{n:03d}", f"Customer {n}", f"customer{n}@example.com") for n in range(1, 61)]
        self._db.executemany("INSERT INTO customers VALUES (?, ?, ?)", people)
        self._db.executemany("INSERT INTO products VALUES (?, ?, ?)", [(n, *rest) for n, rest in PRODUCTS.items()])
        for number in range(5001, 5241):
            product, state = chance.choice(list(PRODUCTS)), chance.choices(STATES, (3, 3, 2, 4))[0]
            if number in SOLD:
                product, state = SOLD[number], "delivered"
            address = f"{chance.randrange(1, 99)} Old Road, Town {number % 60}"
            customer = people[(number - 5001) % 60][0]
            row = (number, customer, product, PRODUCTS[product][0], state, address)
            self._db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", row)
