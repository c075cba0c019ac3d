"""What a forked child has of its parent's executions: copies, as they were, and none of the threads that run them."""

from __future__ import annotations

import os

from nerv.errors import NervError


def refuse_elsewhere(process: int, what: str) -> None:
    """See that this is the process in which something lives.

    Args:
        process: the number of that process.
        what: what lives there, for the message.

    Raises:
        NervError: this one was forked from it.
    """
    if os.getpid() != process:
        raise NervError(
            f"{what} is run by process {process}, from which this one was forked without its threads: what is asked of "
            "it here would never come about; ask there, or call nerv.run here for a run of your own"
        )
