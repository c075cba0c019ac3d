"""The event bus: who hears what happens, when and on which thread; and what there is to tell of the latest past.

How it works. An execution's events are records in its `EventLog`. The bus reads each attached log behind a cursor of
its own: the engine, having appended something, puts the log into the queue of the delivery thread (`nudge`), and that
thread makes `Event`s of the records past the cursor and calls whoever listens. Events outside any log (what users
publish, what the engine announces, HANDLER_ERROR) go through the same queue. So

- the events of one log are heard in `seq` order, and an event that was published after a record was nudged is heard
  after it, as a visit to a log delivers all that is there. Between logs there is no other order than their nudges';
- what a handler publishes is heard right after the event that it is handling, before the next record;
- `publish` waits until its event is delivered, except on a thread that calls handlers: nothing there waits for one.

Since when. A subscription hears what happens after it was made. Records that wait for delivery at that moment get a
mark in their log's `Track`: up to this seq, only those hear it who were subscribed before. A subscription made by a
handler has its place in the stream instead: it hears whatever is delivered after the current event. The bus becomes
`active` with the first listener, and counts all that happened before as delivered.

Threads and locks. There is one lock, and it is a leaf: nothing of the engine's and nothing that a user wrote is called
while it is held, so it may be taken under the engine's. The delivery thread calls handlers holding nothing. What the
garbage collector may call (a handler or a log has died) takes no lock, and only writes down that it was called.

    receivers.py    one who is called with events
    signals.py      who listens to what: the subscriptions as receivers of blinker signals (the only user of blinker)
    threads.py      the delivery thread, the coroutine handlers' thread, waiting for them, and ending them
    history.py      how far each log is delivered, and the latest events
    eventbus.py     `EventBus`: all of it together
"""

from nerv.bus.eventbus import EventBus
from nerv.bus.signals import Subscription

__all__ = ["EventBus", "Subscription"]
