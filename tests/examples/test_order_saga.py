"""The shop's books balance whatever fails, and they wouldn't if nothing were undone."""

import sys

import msgspec
import pytest

from nerv import Workflow, WorkflowManager
from tests.house.commands import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))
import order_saga


def sell(path, seed, workflow, orders=40):
    """Run so many orders; what doesn't add up afterwards, and the executions."""
    shop = order_saga.open_shop(path / "orders.db", seed)
    with WorkflowManager(workers=4, services=shop) as manager:
        articles = list(order_saga.STOCK)
        executions = [
            manager.start(workflow, {"order": {"id": n, "article": articles[n % 3], "pieces": 1 + n % 4}})
            for n in range(orders)
        ]
        for execution in executions:
            assert execution.wait(50)
    return order_saga.complaints(shop, orders), executions


@pytest.mark.parametrize("seed", range(4))
def test_the_books_balance(tmp_path, seed):
    wrong, executions = sell(tmp_path, seed, order_saga.fulfilment())
    assert wrong == []
    assert {execution.result for execution in executions if "close" in execution.results} == {"confirmed", "given up"}


def test_they_would_not_if_nothing_were_undone(tmp_path):
    tasks = [msgspec.structs.replace(task, compensate=None) for task in order_saga.fulfilment().tasks.values()]
    wrong, _ = sell(tmp_path, 0, Workflow("careless", tasks))
    assert wrong


def test_a_charge_of_which_no_attempt_returned_is_swept_up(tmp_path, monkeypatch):
    monkeypatch.setattr(order_saga.Shop, "unlucky", lambda *what: what[2] == "after")
    wrong, executions = sell(tmp_path, 0, order_saga.fulfilment(), orders=2)
    assert wrong == []
    assert all("charge" in execution.failures for execution in executions)
