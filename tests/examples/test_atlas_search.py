"""The atlas's search: words, ranking, and that the page's own search gives the same answers."""

import html
import json
import re
import shutil
import subprocess
import tempfile

import pytest

from tests.examples.atlas_parts import EXAMPLES, SOME, catalogue, describe, graph, search, words


@pytest.fixture(scope="module")
def index():
    """The search index over a part of the standard library."""
    found = graph.survey(only=SOME)
    reports = describe(found)
    importers = graph.imported_by(found.edges)
    entries = catalogue.catalogue(reports, found.modules)
    return search.build(entries, lambda entry: catalogue.prominence(entry, len(importers[entry.module])))


RELATIVES = [
    ("compress", "compression", "compressed", "compressing", "compressor", "compresses"),
    ("parse", "parser", "parsers", "parsing", "parsed"),
    ("topological", "topologically"),
    ("sort", "sorts", "sorted", "sorter", "sorting"),
    ("run", "runs", "running", "runner"),
    ("directory", "directories"),
    ("serialize", "serialization", "serializing"),
]


@pytest.mark.parametrize("family", RELATIVES, ids=lambda family: family[0])
def test_relatives_have_one_stem(family):
    assert len({words.stem(word) for word in family}) == 1


def test_strangers_have_different_stems():
    strangers = ("string", "stream", "is", "iter", "iterate", "class", "clash", "sha1")
    assert len({words.stem(word) for word in strangers}) == len(strangers)


def test_names_are_split_into_their_words():
    assert words.tokens("JSONDecoder.raw_decode") == ["jsondecod", "json", "decod", "raw", "decod"]
    assert words.tokens("the sha256 of a NamedTemporaryFile") == [
        *("sha256", "sha", "256", "namedtemporaryfil", "nam", "temporary", "fil"),
    ]


ASKED = [
    ("topological order of a graph", "module", ["graphlib"]),
    ("topological order of a graph", "method", ["graphlib.TopologicalSorter.static_order"]),
    ("parse json", "module", ["json"]),
    ("temporary file", "module", ["tempfile"]),
    ("tempf", "module", ["tempfile"]),
    ("regular expression", "module", ["re"]),
    ("priority queue", "module", ["heapq", "queue"]),
    ("command line options", "module", ["argparse", "getopt"]),
    ("read csv", "module", ["csv"]),
    ("random number", "module", ["random"]),
    ("os.path.join", "function", ["os.path.join"]),
    ("walk directory tree", "function", ["os.walk"]),
    ("JSONDecoder", "class", ["json.JSONDecoder"]),
    ("cartesian product", "class", ["itertools.product"]),
    ("zip archive", "module", ["zipfile"]),
    ("date and time", "module", ["datetime"]),
]


@pytest.mark.parametrize(("query", "kind", "first"), ASKED)
def test_a_reader_finds(index, query, kind, first):
    found = [hit.title for hit in search.search(index, query, kinds=[kind])]
    assert set(found[: len(first)]) == set(first)


def test_compress_finds_all_that_compress(index):
    modules = [hit.title for hit in search.search(index, "compress", 4, kinds=["module"])]
    functions = [hit.title for hit in search.search(index, "compress", 6, kinds=["function"])]
    assert {"zlib", "bz2", "lzma"} <= set(modules)
    assert {"zlib.compress", "gzip.compress", "bz2.compress", "lzma.compress"} <= set(functions)


def test_what_nobody_wrote_about_is_not_found(index):
    assert search.search(index, "zyxwv") == []
    assert search.search(index, "") == []
    assert search.search(index, "of the") == []


def test_an_unfinished_word_finds_what_the_whole_one_does(index):
    for unfinished in ("compressi", "compressio"):
        assert {hit.title for hit in search.search(index, unfinished, 4, ["module"])} >= {"zlib", "bz2", "lzma"}


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
ASKING = """
<meta charset="utf-8"><pre id="o"></pre><script>
const answer = (q) => makeSearch(index).search(q, 20, () => true).map(([entry]) => index.titles[entry]);
document.getElementById("o").textContent = JSON.stringify(queries.map(answer));
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_the_page_gives_the_answers_that_python_gives(index, tmp_path):
    queries = [*(query for query, _, _ in ASKED), "compress", "compressio", "os", "t", "log fi", "write to file", "Zip"]
    script = (EXAMPLES / "atlas" / "web" / "search.js").read_text()
    data = f"const index = {json.dumps(index)}, queries = {json.dumps(queries)};"
    asking = tmp_path / "ask.html"
    asking.write_text(ASKING.replace("<script>", f"<script>{script}\n{data}"))
    with tempfile.TemporaryDirectory() as profile:
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", asking.as_uri()]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout
    answers = json.loads(html.unescape(re.search(r'<pre id="o">(.*?)</pre>', shown, re.DOTALL)[1]))
    assert answers == [[hit.title for hit in search.search(index, query)] for query in queries]
