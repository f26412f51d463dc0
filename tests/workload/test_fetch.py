"""Downloads of public traces, against files instead of the network."""

import hashlib

import pytest

from sgym.errors import TraceError
from sgym.workload import fetch, resolve_trace

TEXT = b"arrival,prompt,output\n0,1,1\n"


@pytest.fixture
def published(tmp_path, monkeypatch):
    """One public trace `tiny` behind a file:// address, and an empty cache."""
    source = tmp_path / "site" / "tiny.csv"
    source.parent.mkdir()
    source.write_bytes(TEXT)
    digest = hashlib.sha256(TEXT).hexdigest()
    trace = fetch.PublicTrace(source.as_uri(), digest, "one request", "CC0")
    monkeypatch.setattr(fetch, "TRACES", {"tiny": trace})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return source


def test_a_trace_is_downloaded_once(published, tmp_path):
    path = fetch.fetch("tiny")
    assert path == tmp_path / "cache" / "sgym" / "traces" / "tiny.csv"
    assert path.read_bytes() == TEXT
    published.unlink()
    assert fetch.fetch("tiny") == path
    assert resolve_trace("tiny") == path
    assert [file.name for file in path.parent.iterdir()] == ["tiny.csv"]


def test_a_damaged_copy_is_downloaded_again(published):
    path = fetch.fetch("tiny")
    path.write_bytes(b"half")
    assert fetch.fetch("tiny").read_bytes() == TEXT


def test_a_damaged_copy_is_not_used_by_name(published):
    path = fetch.fetch("tiny")
    assert resolve_trace("tiny") == path
    path.write_bytes(b"half")
    message = (
        r"tiny\.csv has the wrong checksum: delete it and run `sgym traces fetch tiny` again, "
        r"or download it from file:"
    )
    with pytest.raises(TraceError, match=message):
        resolve_trace("tiny")
    fetch.fetch("tiny")
    assert resolve_trace("tiny") == path


def test_a_damaged_copy_that_cannot_be_replaced_is_named(published):
    path = fetch.fetch("tiny")
    path.write_bytes(b"half")
    published.unlink()
    with pytest.raises(TraceError, match=r"tiny\.csv has the wrong checksum, and cannot reach"):
        fetch.fetch("tiny")


def test_a_file_with_another_checksum_is_not_kept(published):
    published.write_bytes(b"something else")
    with pytest.raises(TraceError, match=r"has SHA-256 .*, expected .*nothing was kept"):
        fetch.fetch("tiny")
    assert not list(fetch.cache_folder().iterdir())


def test_without_a_connection_the_message_says_what_to_do(published):
    published.unlink()
    with pytest.raises(TraceError, match=r"cannot reach file:.*download it by hand to .*tiny\.csv"):
        fetch.fetch("tiny")
    assert not list(fetch.cache_folder().iterdir())


def test_names_that_were_not_fetched_or_do_not_exist(published, tmp_path):
    with pytest.raises(TraceError, match=r"not on this machine yet: run `sgym traces fetch tiny`"):
        resolve_trace("tiny")
    with pytest.raises(TraceError, match=r"no public trace 'tinny'.*Did you mean 'tiny'\?"):
        fetch.fetch("tinny")
    with pytest.raises(TraceError, match=r"no trace 'nowhere.csv': neither a file nor one of tiny"):
        resolve_trace("nowhere.csv")
    file = tmp_path / "mine.csv"
    file.write_text("x")
    assert resolve_trace(file) == file


def test_public_traces_have_checksums_and_licences():
    assert {"azure-conv-2023", "azure-code-2023", "mooncake-conversation"} == set(fetch.TRACES)
    for trace in fetch.TRACES.values():
        assert trace.url.startswith("https://raw.githubusercontent.com/")
        assert len(trace.sha256) == 64
        assert trace.license
