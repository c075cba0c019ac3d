"""The pytest plugin: the fixture `nerv_tester`. pytest finds it by its entry point; nothing loads until it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nerv.testing import WorkflowTester


@pytest.fixture
def nerv_tester() -> Iterator[WorkflowTester]:
    """A `nerv.testing.WorkflowTester` of this test's own: mocks, a fake clock and simulated pools."""
    from nerv.testing import WorkflowTester

    with WorkflowTester() as tester:
        yield tester
