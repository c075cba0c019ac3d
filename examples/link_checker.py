"""Every link of a website, looked up: politely, stubbornly where that helps, and never for long.

The website is served by this script, on two addresses of this machine, and it is a bad one: some pages are gone, some
come only at the third attempt, one never ends, and the second address, which half the links lead to, is ill. The
checker asks each address at most so many times a second (`rate_limit`), gives up on an answer after a while
(`timeout`), asks again after what may pass (`retry_policy`) and not after what won't (`TerminalError`), and leaves the
ill address alone once it has seen enough of it (`circuit_breaker`). A link that is broken in the end is a finding and
not a failure: its task is completed by its `fallback`.

Pages are found as they are read, so the site is checked layer by layer: each layer is an execution, and the limits,
which have names, hold for all of them. At the end the servers tell how they were treated, and whether that was as
promised.

    python examples/link_checker.py
    python examples/link_checker.py --pages 200 --rate 100
"""

import argparse
import re
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from nerv import CircuitBreaker, EventType, RateLimit, RetryPolicy, TaskDef, TerminalError, Workflow, WorkflowManager

# ---- the website -----------------------------------------------------------------------------------------------------


class Site:
    """A website on one address, and what was asked of it.

    Args:
        pages: how many there are; each links to others, here and elsewhere.
        is_ill: whether it answers everything with an error.
    """

    def __init__(self, pages: int, *, is_ill: bool = False) -> None:
        self.pages = pages
        self.is_ill = is_ill
        self.other = ""
        self.asked: list[tuple[float, str]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._counts = Counter[str]()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def answer(self, path: str) -> tuple[int, str]:
        """The status and the text for a path."""
        with self._lock:
            self.asked.append((time.monotonic(), path))
            self._counts[path] += 1
            times = self._counts[path]
        number = int(path.strip("/") or 0)
        if self.is_ill:
            return 500, "ill"
        if number >= self.pages or number % 11 == 7:
            return 404, "gone"
        if number % 13 == 5 and times < 3:
            return 503, "later"
        if number == self.pages - 1:
            self.closing.wait(30)  # it never ends, as long as anybody listens
        return 200, " ".join(f'<a href="{link}">' for link in self.links(number))

    def links(self, number: int) -> list[str]:
        """Where a page leads to: deeper into this site, and to the other one."""
        random = Random(number)  # noqa: S311  no secrets
        near = [f"/{child}" for child in (3 * number + 1, 3 * number + 2, 3 * number + 3) if child <= self.pages]
        return [*near, f"{self.other}{random.randrange(8)}"]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = site.answer(self.path)
                body = text.encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except ConnectionError:
                    self.close_connection = True  # who asked has given up

            def log_message(self, *_: Any) -> None:
                """Nothing is printed."""

        return Handler


@contextmanager
def serving(*sites: Site) -> Iterator[None]:
    """The sites answer meanwhile."""
    threads = [threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.05}) for site in sites]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for site, thread in zip(sites, threads, strict=True):
            site.closing.set()
            site.server.shutdown()
            site.server.server_close()
            thread.join()


# ---- the checker -----------------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """What became of a link: the links of its page, or what was wrong."""

    links: tuple[str, ...] = ()
    trouble: str = ""


def look_up(url: str, patience: float) -> Finding:
    """Ask for a page, and find the links in it."""
    try:
        with urllib.request.urlopen(url, timeout=2 * patience) as answer:  # noqa: S310  http, as we made it
            text = answer.read().decode()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code < 500:
            raise TerminalError(f"{error.code} {error.msg}") from error  # asking again won't help
        raise
    return Finding(tuple(urljoin(url, link) for link in re.findall(r'href="([^"]+)"', text)))


def broken(error: Exception) -> Finding:
    """A link that couldn't be looked up is a finding too."""
    return Finding(trouble=f"{type(error).__name__}: {error}".split(" (attempt")[0])


class Checker:
    """Looks up links, each once, with the same manners towards every address."""

    def __init__(self, manager: WorkflowManager, rate: int, patience: float) -> None:
        self.manager = manager
        self.patience = patience
        self.found: dict[str, Finding] = {}
        self.starts: dict[str, list[float]] = {}  # by address
        self._rate = rate

    def task(self, url: str) -> TaskDef:
        """The task that looks up a link. Limits that have the same name are one, whoever makes them."""
        address, path = urlsplit(url)[1:3]
        return TaskDef(
            f"{address} page {path[1:] or 0}",  # a slash isn't for ids
            look_up,
            args=(url, self.patience),
            timeout=self.patience,
            retry_policy=RetryPolicy(3, initial_interval=0.05),
            rate_limit=RateLimit(self._rate, 1.0, name=address),
            circuit_breaker=CircuitBreaker(4, recovery_time=0.2, name=address),
            fallback=broken,
        )

    def check(self, start: str) -> int:
        """Look up all that can be reached; returns how many layers deep that was."""
        layer, depth = [start], 0
        while layer:
            depth += 1
            execution = self.manager.start(Workflow(f"layer {depth}", [self.task(url) for url in layer]))
            execution.wait()
            for url in layer:
                self.found[url] = execution[self.task(url).id]
            for event in execution.events():
                if event.type is EventType.TASK_STARTED:
                    self.starts.setdefault(str(event.task_id).split()[0], []).append(event.timestamp)
            linked = dict.fromkeys(link for url in layer for link in self.found[url].links)
            layer = [link for link in linked if link not in self.found]
        return depth


def most_in_a_second(moments: list[float]) -> int:
    """How many attempts started within any second. (Event times are rounded in the eighth digit or so.)"""
    return max(sum(moment <= other < moment + 0.999999 for other in moments) for moment in moments)


def main() -> int:
    """Serve the site, check it, and hear the servers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=60)
    parser.add_argument("--rate", type=int, default=25, help="requests a second to one address")
    options = parser.parse_args()
    well, ill = Site(options.pages), Site(8, is_ill=True)
    well.other, ill.other = ill.url, well.url
    with serving(well, ill), WorkflowManager(workers=16) as manager:
        heard: list[Any] = []
        manager.event_bus.subscribe("CIRCUIT_OPENED", heard.append)
        checker = Checker(manager, options.rate, patience=1.0)
        depth = checker.check(well.url)
    findings = Counter(finding.trouble or "fine" for finding in checker.found.values())
    print(f"{len(checker.found)} links in {depth} layers, {sum(map(len, checker.starts.values()))} attempts")
    for trouble, count in findings.most_common():
        print(f"{count:5}  {trouble}")
    print(f"The ill address was asked {len(ill.asked)} times for its 8 pages; its circuit opened {len(heard)} times.")
    wrong = [
        f"{address} was asked {most} times within a second, and {options.rate} is polite"
        for address, moments in checker.starts.items()
        if (most := most_in_a_second(moments)) > options.rate
    ]
    if len(ill.asked) > 3 * 8:
        wrong.append(f"the ill address was asked {len(ill.asked)} times, and three times a page is enough")
    print("\n".join(wrong) if wrong else "The servers have no complaint.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
