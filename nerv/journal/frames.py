"""How an execution's records become rows: *frames*, one for each stretch that was written.

Frame 0 of an execution is its header. Each stretch is one more: a row of the table `frames` whose key is made of the
execution's number and the frame's, with the first record's seq, the number of records, and a body:

    "R" msgpack [epoch, new ids, records, {task number: value}, claims]

An id that isn't Unicode, as a file's name may be, is kept as "/" and its bytes in hex.

So a row costs the same for one record as for thousands, and what was written by one commit is one row. Housekeeping
packs many small frames into one row, their bodies unchanged:

    "P" zlib (msgpack [body, body, ...])

The row keeps the first one's key and says how many it spans, so frames are still counted without gaps, and a reader
that stood in the middle finds its place again. The checksum covers the body, the key, seq, count and span.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw

from nerv.journal.base import Header, Stretch
from nerv.journal.codec import ENCODED, ENCODER, Stored, encode_facts
from nerv.journal.lazy import LazyFacts

SPLIT: Final = 1 << 26
"""Bytes of a body beyond which a stretch is written as several frames, if it has several records."""

SHIFT: Final = 32
_MASK: Final = (1 << SHIFT) - 1
_HEADER: Final = b"H"
_RECORDS: Final = b"R"
_PACK: Final = b"P"
_HEX: Final = "/"
_NUMBERS: Final = struct.Struct("<qqqq")


class Row(NamedTuple):
    """A row of the table `frames`; `length` is its column `count`."""

    key: int
    first_seq: int
    length: int
    span: int
    body: bytes
    checksum: int

    @property
    def frame(self) -> int:
        """The number of its first frame in its execution."""
        return self.key & _MASK

    @property
    def is_whole(self) -> bool:
        """Whether it is what was written."""
        try:
            return self.checksum == checksum(*self[:5])
        except (TypeError, struct.error):  # damaged so that it is of other types
            return False

    @property
    def is_pack(self) -> bool:
        """Whether its body holds those of several frames."""
        return self.body[:1] == _PACK


class Content(msgspec.Struct, frozen=True, array_like=True):
    """What one frame holds. Moments count from `epoch`; `values` are encoded results by task number."""

    epoch: float
    ids: list[str]
    records: list[tuple[int, int, float, int, dict[str, Raw] | None]]
    values: dict[int, Raw]
    claims: list[int]


def checksum(key: int, first_seq: int, count: int, span: int, body: bytes) -> int:
    """CRC-32 of a row."""
    return zlib.crc32(body, zlib.crc32(_NUMBERS.pack(key, first_seq, count, span)))


def key_of(execution: int, frame: int) -> int:
    """The key of an execution's frame; those of one execution follow each other."""
    return execution << SHIFT | frame


def row(key: int, first_seq: int, count: int, body: bytes, span: int = 1) -> Row:
    """A row with its checksum."""
    return Row(key, first_seq, count, span, body, checksum(key, first_seq, count, span, body))


# ---- bodies ---------------------------------------------------------------------------------------------------------


def header_body(header: Header) -> bytes:
    """A header as bytes."""
    params, extra = encode_facts(header.params), encode_facts(header.extra)
    return _HEADER + ENCODER.encode(
        [
            header.id,
            header.workflow_name,
            header.workflow_id,
            header.fingerprint,
            params,
            header.target,
            header.created_at,
            extra,
        ]
    )


def header_of(body: bytes) -> Header:
    """The header that `header_body` wrote; its params and extra are decoded when asked for."""
    known, name, workflow_id, fingerprint, params, target, created_at, extra = _HEADERS.decode(_after(_HEADER, body))
    return Header(known, name, workflow_id, fingerprint, facts(params), target, created_at, facts(extra))


def bodies(stretch: Stretch) -> list[tuple[int, bytes]]:
    """A stretch as `(number of records, body)`, several if it is very large."""
    records = [record if record[4] is None else (*record[:4], encode_facts(record[4])) for record in stretch.records]
    if not ENCODED.issuperset(map(type, stretch.values.values())):
        raise TypeError(f"results of {stretch.execution_id!r} weren't encoded: msgpack would change them unseen")
    ids = stretch.ids if "".join(stretch.ids).isascii() else [_unicode(one) for one in stretch.ids]
    whole = (stretch.epoch, ids, records, stretch.values, stretch.claims)
    body = _RECORDS + ENCODER.encode(whole)
    if len(body) <= SPLIT or len(records) < 2:
        return [(len(records), body)]
    return [one for part in _halves(stretch) for one in bodies(part)]


def _halves(stretch: Stretch) -> Iterator[Stretch]:
    middle = len(stretch.records) // 2
    for records, ids, claims in (
        (stretch.records[:middle], stretch.ids, stretch.claims),
        (stretch.records[middle:], (), ()),
    ):
        numbers = {record[1] for record in records}
        values = {number: value for number, value in stretch.values.items() if number in numbers}
        yield Stretch(stretch.execution_id, 0, records, stretch.epoch, ids, values, claims)


def content(body: bytes) -> Content:
    """What `bodies` wrote."""
    found: Content = _CONTENTS.decode(_after(_RECORDS, body))
    if any(one[:1] == _HEX for one in found.ids):
        return msgspec.structs.replace(found, ids=[_as_given(one) for one in found.ids])
    return found


def _unicode(task_id: str) -> str:
    """An id that holds half a surrogate pair, as names of files may, in hex behind a character that begins no id."""
    raw = task_id.encode("utf-8", "surrogatepass")
    return task_id if raw == task_id.encode("utf-8", "replace") else _HEX + raw.hex()


def _as_given(kept: str) -> str:
    return bytes.fromhex(kept[1:]).decode("utf-8", "surrogatepass") if kept[:1] == _HEX else kept


def facts(raw: dict[str, Raw]) -> LazyFacts:
    """Data as it was stored, to be decoded when asked for."""
    return LazyFacts((key, Stored(value)) for key, value in raw.items())


def _after(mark: bytes, body: bytes) -> memoryview:
    if body[:1] != mark:
        raise ValueError(f"a frame begins with {body[:1]!r} where {mark!r} was written")
    return memoryview(body)[1:]


# ---- packs ----------------------------------------------------------------------------------------------------------


def packed(rows: Sequence[Row]) -> Row:
    """Rows that follow each other as one."""
    inner = [body for one in rows for body in unpacked(one)]
    body = _PACK + zlib.compress(ENCODER.encode(inner), 1)
    return row(rows[0].key, rows[0].first_seq, sum(one.length for one in rows), body, sum(one.span for one in rows))


def unpacked(one: Row) -> list[bytes]:
    """The bodies of the frames in a row."""
    if not one.is_pack:
        return [one.body]
    return _PACKS.decode(zlib.decompress(memoryview(one.body)[1:]))


_HEADERS: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(
    tuple[str, str, str | None, str, dict[str, Raw], str | None, float, dict[str, Raw]]
)
_CONTENTS: Final = msgspec.msgpack.Decoder(Content)
_PACKS: Final = msgspec.msgpack.Decoder(list[bytes])
