"""Public traces: where they are, and a checked download into the user's cache."""

import difflib
import hashlib
import http.client
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sgym.errors import TraceError

TIMEOUT = 30.0  # seconds without an answer
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class PublicTrace:
    """A trace that anyone may download."""

    url: str
    sha256: str
    description: str
    license: str

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        return self.url.rsplit("/", 1)[-1]


TRACES = {
    "azure-conv-2023": PublicTrace(
        "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data/"
        "AzureLLMInferenceTrace_conv.csv",
        "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        "Azure conversation service, 19,366 requests in one hour of November 2023",
        "CC-BY-4.0",
    ),
    "azure-code-2023": PublicTrace(
        "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data/"
        "AzureLLMInferenceTrace_code.csv",
        "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        "Azure code completion service, 8,819 requests in one hour of November 2023",
        "CC-BY-4.0",
    ),
    "mooncake-conversation": PublicTrace(
        "https://raw.githubusercontent.com/kvcache-ai/Mooncake/main/FAST25-release/traces/"
        "conversation_trace.jsonl",
        "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        "Kimi conversations with long contexts, 12,031 requests in one hour",
        "Apache-2.0",
    ),
}


def cache_folder() -> Path:
    """Folder of downloaded traces: $XDG_CACHE_HOME or ~/.cache, then sgym/traces."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sgym" / "traces"


def fetch(name: str) -> Path:
    """Download a public trace, unless it is in the cache with the right checksum.

    Raises:
        TraceError: unknown name, no connection, or a file that is not the published one.
    """
    trace = _known(name)
    target = cache_folder() / trace.file_name
    if target.is_file() and _sha256(target) == trace.sha256:
        return target
    wrong = f"{target} has the wrong checksum, and " if target.is_file() else ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = _download(trace.url, target.parent)
    except (OSError, http.client.HTTPException) as error:
        raise TraceError(
            f"{wrong}cannot reach {trace.url} ({error}); download it by hand to {target}"
        ) from None
    found = _sha256(partial)
    if found != trace.sha256:
        partial.unlink()
        raise TraceError(
            f"{wrong}{trace.url} has SHA-256 {found}, expected {trace.sha256}: the published "
            "file has changed, or the download was altered; nothing was kept"
        )
    partial.replace(target)
    return target


def resolve_trace(name_or_path: str | Path) -> Path:
    """The file of a trace: a path that exists, or the name of one that was fetched.

    Raises:
        TraceError: no such trace, or the cached file is not the published one.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    name = str(name_or_path)
    if name in TRACES:
        trace = TRACES[name]
        cached = cache_folder() / trace.file_name
        if cached.is_file():
            status = cached.stat()
            if _known_sha256(cached, status.st_mtime_ns, status.st_size) == trace.sha256:
                return cached
            raise TraceError(
                f"{cached} has the wrong checksum: delete it and run `sgym traces fetch {name}` "
                f"again, or download it from {trace.url}"
            )
        raise TraceError(
            f"trace {name!r} is not on this machine yet: run `sgym traces fetch {name}`"
        )
    raise TraceError(f"no trace {name!r}: neither a file nor {_known_names(name)}")


def _known(name: str) -> PublicTrace:
    if name not in TRACES:
        raise TraceError(f"no public trace {name!r}: not {_known_names(name)}")
    return TRACES[name]


def _known_names(name: str) -> str:
    near = difflib.get_close_matches(name, TRACES, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    return f"one of {', '.join(TRACES)}{hint}"


def _download(url: str, folder: Path) -> Path:
    """Download to a temporary file in `folder`; nothing stays behind after an error."""
    handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
        with (
            os.fdopen(handle, "wb") as file,
            urllib.request.urlopen(url, timeout=TIMEOUT) as source,  # noqa: S310  (URLs of TRACES)
        ):
            while chunk := source.read(CHUNK):
                file.write(chunk)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


@lru_cache(maxsize=64)
def _known_sha256(path: Path, _mtime: int, _size: int) -> str:
    """The checksum of a file, computed once while its time stamp and size stay the same."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
