"""Blobs are named by their content, stay inside their store, and go with their job."""

import hashlib
import os
import shutil
import tracemalloc

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.blobs import CHUNK, EXPLANATIONS, BlobError, BlobStore, place
from streams.engine.payload import BlobRef

PREFIX = "ns/pipe/job-1"


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        return BlobStore((tmp_path / "a folder%").as_uri())
    return BlobStore(f"memory://{tmp_path.name}")


async def test_a_value_comes_back_as_it_was(store):
    ref = await store.put(PREFIX, b'{"a":[1,2]}')
    assert ref.sha256 == hashlib.sha256(b'{"a":[1,2]}').hexdigest()
    assert ref.url == f"{store.url}/ns/pipe/job-1/{ref.sha256}"
    assert ref.size == 11
    assert await store.get(ref) == b'{"a":[1,2]}'
    assert await store.value(ref) == {"a": [1, 2]}


async def test_the_type_says_what_a_value_is(store):
    assert await store.value(await store.put(PREFIX, "é".encode(), "text/plain")) == "é"
    assert await store.value(await store.put(PREFIX, b"%PDF", "application/pdf")) == b"%PDF"
    assert await store.value(await store.put(PREFIX, b"[1]", "application/x+json")) == [1]


async def test_the_same_content_again_is_the_same_blob(store):
    """A repeated attempt leaves no orphan."""
    first = await store.put(PREFIX, b"same")
    assert await store.put(PREFIX, b"same") == first
    assert await store.list_prefix(PREFIX) == [first.url]


async def test_pieces_and_files_give_the_same_blob_as_their_bytes(store, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abcdef")
    whole = await store.put(PREFIX, b"abcdef")
    assert await store.put(PREFIX, file) == whole
    assert await store.put(PREFIX, iter([b"abc", b"def"])) == whole


async def test_a_job_takes_all_its_blobs_along_and_no_others(store):
    for job in ("a", "a/b", "ab", "A"):
        await store.put(f"ns/pipe/{job}", b"1")
        await store.put(f"ns/pipe/{job}", b"2")
    assert await store.delete_prefix("ns/pipe/a") == 2
    assert await store.list_prefix("ns/pipe/a") == []
    for job in ("a/b", "ab", "A"):
        assert len(await store.list_prefix(f"ns/pipe/{job}")) == 2
    assert await store.delete_prefix("ns/pipe") == 6
    assert await store.delete_prefix("ns/pipe") == 0


async def test_what_a_crash_left_half_written_is_no_blob_and_goes_with_the_job(tmp_path):
    """protocol.md, last table: swept at purge."""
    store = BlobStore(tmp_path.as_uri())
    ref = await store.put(PREFIX, b"whole")
    half = tmp_path / "ns/pipe/job-1/.part-host-1-0-abc"
    half.write_bytes(b"ha")
    assert await store.list_prefix(PREFIX) == [ref.url]
    assert await store.delete_prefix(PREFIX) == 1
    assert not half.exists()


async def test_a_missing_blob_says_so(store):
    ref = await store.put(PREFIX, b"x")
    await store.delete_prefix(PREFIX)
    with pytest.raises(BlobError) as caught:
        await store.get(ref)
    assert caught.value.code == "B001"
    assert not caught.value.retriable


async def test_a_damaged_blob_is_refused(tmp_path):
    store = BlobStore(tmp_path.as_uri())
    ref = await store.put(PREFIX, b"good")
    (tmp_path / "ns/pipe/job-1" / ref.sha256).write_bytes(b"evil")
    with pytest.raises(BlobError, match="damaged") as caught:
        await store.get(ref)
    assert caught.value.code == "B002"


async def test_content_that_is_not_its_type_is_refused(store):
    with pytest.raises(BlobError) as caught:
        await store.value(await store.put(PREFIX, b"{broken"))
    assert caught.value.code == "B002"


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "{base}/../../etc/passwd",
        "{base}/ns/../{sha}",
        "{base}/ns/pipe/job/not-a-name",
        "{base}-other/ns/pipe/job/{sha}",
        "{base}/ns//{sha}",
        "{base}/.hidden/{sha}",
    ],
)
async def test_an_address_outside_the_store_is_refused(tmp_path, url):
    """Data of an event may hold `{"$blob": …}` that a stranger wrote."""
    store = BlobStore(tmp_path.as_uri())
    sha = hashlib.sha256(b"").hexdigest()
    with pytest.raises(BlobError) as caught:
        await store.get(BlobRef(url.format(base=store.url, sha=sha), 0, sha))
    assert caught.value.code == "B003"
    assert set(EXPLANATIONS) == {"B001", "B002", "B003", "B004"}


async def test_a_store_that_cannot_be_used_is_worth_another_try(tmp_path):
    (tmp_path / "ns").write_text("a file where a folder has to be")
    with pytest.raises(BlobError) as caught:
        await BlobStore(tmp_path.as_uri()).put(PREFIX, b"x")
    assert caught.value.code == "B004"
    assert caught.value.retriable


async def test_a_file_of_any_size_is_copied_in_little_memory(tmp_path):
    """200 MB must fit through a small worker; a sparse file makes 64 MB cheap here."""
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 * CHUNK)
    store = BlobStore((tmp_path / "store").as_uri())
    tracemalloc.start()
    ref = await store.put(PREFIX, big, "application/octet-stream")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ref.size == 64 * CHUNK
    assert peak < 8 * CHUNK


def test_a_plain_path_is_a_folder_and_not_shared(tmp_path):
    assert BlobStore(str(tmp_path)).url == tmp_path.as_uri()
    assert not BlobStore(str(tmp_path)).shared
    assert BlobStore("s3://bucket/x").shared


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
def test_no_two_jobs_share_a_folder(jobs):
    one, other = (place(f"ns/pipe/{job}") for job in jobs)
    assert one.lower() != other.lower()
    assert not one.startswith(f"{other}/")


@given(st.text(min_size=1))
def test_no_job_id_leads_outside(job):
    *_, last = place(f"ns/pipe/{job}").split("/")
    assert place(f"ns/pipe/{job}").count("/") == 2
    assert last not in {".", ".."}
    assert len(last) < 200


def test_a_reference_travels_as_json():
    ref = BlobRef("file:///b/ns/p/j/0", 3, "0", "text/plain")
    assert msgspec.json.decode(msgspec.json.encode(ref), type=BlobRef) == ref


async def test_a_purge_beside_a_listing_is_no_fault(monkeypatch, tmp_path):
    """Folders go while they are looked through; what is gone is just not listed."""
    folder = BlobStore(str(tmp_path / "beside"))
    for job in "ab":
        await folder.put(f"ns/pipe/{job}", b"x")
    scan, gone = os.scandir, []

    def racing(path="."):
        if str(path).endswith("/a") and not gone:
            gone.append(path)
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", racing)
    assert [url.rsplit("/", 2)[1] for url in await folder.list_prefix("ns/pipe")] == ["b"]
    assert gone
