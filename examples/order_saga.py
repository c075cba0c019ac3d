"""Orders against a real database: whatever fails on the way, stock, money and parcels add up in the end.

Each order is an execution of one workflow: reserve the goods, charge the card, book a parcel, confirm. The warehouse,
the payment service and the courier are tables of an SQLite file, and each fails in its own way: the payment service
hangs up now and then, sometimes *after* it has charged; some cards are declined for good; the courier is out of vans.
So:

- what may pass is retried, with the task's `ctx.idempotency_key`, so that a card that was charged before the line went
  dead isn't charged twice;
- what was done is undone, the last thing first, when an order can't be fulfilled (`compensate`), and undoing is retried
  as well, for the payment service hangs up on refunds too;
- what nobody can undo, since no task completed it, is swept up by the task that closes each order, well or not: a
  charge whose every attempt seemed to fail.

At the end the books are read, and they must balance.

    python examples/order_saga.py
    python examples/order_saga.py --orders 500 --seed 7
"""

import argparse
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

from nerv import Output, Param, RateLimit, RetryPolicy, TaskContext, TaskDef, TerminalError, Workflow, WorkflowManager

SCHEMA = """
    CREATE TABLE stock (article TEXT PRIMARY KEY, pieces INTEGER NOT NULL CHECK (pieces >= 0));
    CREATE TABLE reservations (key TEXT PRIMARY KEY, order_id INTEGER, article TEXT, pieces INTEGER);
    CREATE TABLE charges (key TEXT PRIMARY KEY, order_id INTEGER, cents INTEGER);
    CREATE TABLE parcels (key TEXT PRIMARY KEY, order_id INTEGER);
    CREATE TABLE orders (order_id INTEGER PRIMARY KEY, status TEXT NOT NULL);
"""
STOCK = {"lamp": 60, "chair": 40, "desk": 8}
PRICE = {"lamp": 4_900, "chair": 12_500, "desk": 39_900}


class HungUpError(ConnectionError):
    """Raised when a service doesn't answer; it may have done its work all the same."""


class Shop:
    """The database, and how often its services fail. What fails is drawn per order, step and attempt."""

    def __init__(self, path: str, seed: int) -> None:
        self.path = path
        self.seed = seed

    @contextmanager
    def books(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def unlucky(self, chance: float, *what: object) -> bool:
        """Whether this goes wrong."""
        return Random(f"{self.seed} {what}").random() < chance  # noqa: S311  no secrets


# ---- the tasks -------------------------------------------------------------------------------------------------------


def reserve(ctx: TaskContext, order: dict[str, Any]) -> str:
    """Take the goods off the shelf; the reservation's key."""
    key = ctx.idempotency_key
    with ctx.services.books() as books:
        taken = books.execute(
            "UPDATE stock SET pieces = pieces - ? WHERE article = ? AND pieces >= ?",
            (order["pieces"], order["article"], order["pieces"]),
        )
        if not taken.rowcount:
            raise TerminalError(f"out of {order['article']}s")
        books.execute(
            "INSERT INTO reservations VALUES (?, ?, ?, ?)", (key, order["id"], order["article"], order["pieces"])
        )
    return key


def put_back(ctx: TaskContext, key: str) -> None:
    """Undo `reserve`."""
    with ctx.services.books() as books:
        article, pieces = books.execute("SELECT article, pieces FROM reservations WHERE key = ?", (key,)).fetchone()
        books.execute("DELETE FROM reservations WHERE key = ?", (key,))
        books.execute("UPDATE stock SET pieces = pieces + ? WHERE article = ?", (pieces, article))


def charge(ctx: TaskContext, order: dict[str, Any]) -> str:
    """Charge the card; the charge's key, which is the same in each attempt, so that it is charged once."""
    shop: Shop = ctx.services
    if shop.unlucky(0.1, "declined", order["id"]):
        raise TerminalError("the card was declined")
    if shop.unlucky(0.2, "before", order["id"], ctx.attempt):
        raise HungUpError("the payment service doesn't answer")
    with shop.books() as books:
        cents = order["pieces"] * PRICE[order["article"]]
        books.execute("INSERT OR IGNORE INTO charges VALUES (?, ?, ?)", (ctx.idempotency_key, order["id"], cents))
    if shop.unlucky(0.3, "after", order["id"], ctx.attempt):
        raise HungUpError("the payment service hung up after it had charged")
    return ctx.idempotency_key


def refund(ctx: TaskContext, key: str) -> None:
    """Undo `charge`. It hangs up too; it is retried as `charge` is."""
    shop: Shop = ctx.services
    if shop.unlucky(0.3, "refund", key, ctx.attempt):
        raise HungUpError("the payment service doesn't answer")
    with shop.books() as books:
        books.execute("DELETE FROM charges WHERE key = ?", (key,))


def book_parcel(ctx: TaskContext, order: dict[str, Any]) -> str:
    """Have it fetched. The courier has no van for some orders, however often it is asked."""
    if ctx.services.unlucky(0.15, "no van", order["id"]):
        raise HungUpError("the courier has no van")
    with ctx.services.books() as books:
        books.execute("INSERT OR IGNORE INTO parcels VALUES (?, ?)", (ctx.idempotency_key, order["id"]))
    return ctx.idempotency_key


def cancel_parcel(ctx: TaskContext, key: str) -> None:
    """Undo `book_parcel`."""
    with ctx.services.books() as books:
        books.execute("DELETE FROM parcels WHERE key = ?", (key,))


def confirm(ctx: TaskContext, order: dict[str, Any]) -> None:
    """Tell the customer; some addresses don't exist."""
    if ctx.services.unlucky(0.05, "address", order["id"]):
        raise TerminalError("there is no such address")
    with ctx.services.books() as books:
        books.execute("INSERT INTO orders VALUES (?, 'confirmed')", (order["id"],))


def close(ctx: TaskContext, order: dict[str, Any]) -> str:
    """Runs whatever happened, after all that was completed has been undone: sweep up, and file the order."""
    with ctx.services.books() as books:
        books.execute("INSERT OR IGNORE INTO orders VALUES (?, 'given up')", (order["id"],))
        (status,) = books.execute("SELECT status FROM orders WHERE order_id = ?", (order["id"],)).fetchone()
        if status != "confirmed":  # a charge that was made, though no attempt of `charge` ever returned
            books.execute("DELETE FROM charges WHERE order_id = ?", (order["id"],))
    return str(status)


def fulfilment() -> Workflow:
    """The workflow of one order, which is its param."""
    order = Param("order")
    patient = RetryPolicy(3, initial_interval=0.01, retry_on=(HungUpError,))
    stubborn = RetryPolicy(25, initial_interval=0.01, maximum_interval=0.05, retry_on=(HungUpError,))
    return Workflow(
        "fulfilment",
        [
            TaskDef("reserve", reserve, args=(order,), compensate=put_back),
            TaskDef(
                "charge",
                charge,
                args=(order,),
                dependencies=["reserve"],
                compensate=refund,
                retry_policy=stubborn,  # of the refund too: one that isn't made is a customer lost
                timeout=10,
                rate_limit=RateLimit(50, 0.1, name="payment service"),
            ),
            TaskDef(
                "parcel",
                book_parcel,
                args=(order,),
                dependencies=["charge"],
                compensate=cancel_parcel,
                retry_policy=patient,
            ),
            TaskDef("confirm", confirm, args=(order,), dependencies=["parcel"]),
            TaskDef("close", close, args=(order,), dependencies=["confirm"], run_when="all_finished"),
        ],
        result=Output("close"),
    )


# ---- the books -------------------------------------------------------------------------------------------------------


def open_shop(path: Path, seed: int) -> Shop:
    """A new database with a full warehouse."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + SCHEMA)
        connection.executemany("INSERT INTO stock VALUES (?, ?)", STOCK.items())
        connection.commit()
    return Shop(str(path), seed)


def complaints(shop: Shop, orders: int) -> list[str]:
    """What doesn't add up."""
    with shop.books() as books:
        rows = books.execute("SELECT order_id, status FROM orders").fetchall()
        confirmed = sorted(order for order, status in rows if status == "confirmed")
        found = [] if len(rows) == orders else [f"{orders - len(rows)} orders were never closed"]
        for table in ("reservations", "charges", "parcels"):
            there = [order for (order,) in books.execute(f"SELECT order_id FROM {table} ORDER BY order_id")]  # noqa: S608
            if there != confirmed:
                found.append(f"{table} are those of {there}, and confirmed are {confirmed}")
        for article, pieces in books.execute("SELECT article, pieces FROM stock").fetchall():
            sold = books.execute("SELECT SUM(pieces) FROM reservations WHERE article = ?", (article,)).fetchone()[0]
            if pieces + (sold or 0) != STOCK[article]:
                found.append(f"{STOCK[article]} {article}s were there, {sold} are sold and {pieces} left")
    return found


def main() -> int:
    """Take the orders, and read the books."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", type=Path, default=Path("orders.db"))
    options = parser.parse_args()
    shop, random, workflow = open_shop(options.database, options.seed), Random(options.seed), fulfilment()  # noqa: S311
    with WorkflowManager(workers=8, services=shop, keep=options.orders) as manager:
        executions = [
            manager.start(
                workflow,
                {"order": {"id": number, "article": random.choice(list(STOCK)), "pieces": random.randint(1, 3)}},
            )
            for number in range(options.orders)
        ]
        for execution in executions:
            execution.wait()
    endings = Counter("; ".join(map(str, one.failures.values())) or "confirmed" for one in executions)
    attempts = sum(one.task("charge").attempts for one in executions)
    undone = [str(event.type) for one in executions for event in one.events()].count("TASK_COMPENSATED")
    for ending, count in endings.most_common():
        print(f"{count:5}  {ending}")
    print(f"{attempts:5}  calls to charge a card, {undone} steps undone")
    failed = [f"{task}: {error}" for one in executions for task, error in one.undo_errors.items()]
    wrong = complaints(shop, options.orders) + failed
    print("\n".join(wrong) if wrong else "The books balance.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
