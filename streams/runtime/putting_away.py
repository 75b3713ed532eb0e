"""Data that is too large to travel with every event goes to the blob store before it is taken in.

What comes from outside may be as large as the log allows. Events and rows made of it would be larger
than that, and could never be written.
"""

from __future__ import annotations

import msgspec

from streams.blobs import BlobError, BlobStore
from streams.engine.intake import foreign_data
from streams.engine.messages import SIGNAL, SUBMIT, SubmitData
from streams.engine.payload import INLINE_LIMIT, BlobRef, blob_of, reference
from streams.errors import LogUnavailable
from streams.event import Event

_submit = msgspec.json.Decoder(SubmitData)


async def put_away(event: Event, blobs: BlobStore, prefix: str) -> Event:
    """The event, with a reference in place of data over the limit. The same content again is the
    same reference, so a repeat is still seen as one. Raises `LogUnavailable` while the store cannot
    be used."""
    if event.type == SIGNAL or event.data is None or len(event.data) <= INLINE_LIMIT:
        return event
    if event.type != SUBMIT:
        data = reference(await _kept(foreign_data(event), blobs, prefix))
        return event.with_(data=bytes(data), datacontenttype="application/json")
    try:
        body = _submit.decode(event.data)
    except msgspec.MsgspecError:
        return event  # what it is refused for is said by whoever takes it in
    if len(body.data) <= INLINE_LIMIT or blob_of(body.data) is not None:
        return event
    kept = reference(await _kept(body.data, blobs, prefix))
    return event.with_(data=msgspec.json.encode(msgspec.structs.replace(body, data=kept)))


async def _kept(data: msgspec.Raw, blobs: BlobStore, prefix: str) -> BlobRef:
    try:
        return await blobs.put(prefix, bytes(data))
    except BlobError as error:
        if error.retriable:
            raise LogUnavailable(error.message, code=error.code) from error
        raise
