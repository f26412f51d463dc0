import copy
import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest

import sgym
from sgym import _jit
from sgym._jit import cache
from sgym.core import engine, queue
from sgym.core.layout import EVENT, INSTANCE, LINK, NONE, REQUEST


def test_compiled_kernels_of_one_content_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = _jit.cache_directory()
    assert folder == _jit.cache_directory()
    assert folder.parent == tmp_path / "sgym" / "kernels"
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    assert _jit.cache_directory() != folder


def test_kernels_lie_in_that_folder_though_numba_was_imported_before():
    """Beside their sources, numba would take those for fresh that call what has changed."""
    code = """
import numba
from sgym._jit import cache_directory
from sgym.core.engine import advance
print(advance._cache.cache_path, cache_directory(), sep="\\n")
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    kept, folder = map(Path, ran.stdout.splitlines())
    assert kept.parent == folder


def test_folders_that_nobody_used_for_a_month_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = _jit.cache_directory()
    old, recent = folder.parent / "old", folder.parent / "recent"
    for other, age in ((old, 31), (recent, 29)):
        other.mkdir()
        (other / "kernel.nbc").write_bytes(b"x")
        os.utime(other, (time.time() - age * 86400,) * 2)
    _jit.cache_directory()
    assert [other.exists() for other in (folder, old, recent)] == [True, False, True]


def test_without_a_writable_home_the_folder_for_temporary_files_serves(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(_jit.cache.tempfile, "gettempdir", lambda: str(tmp_path))
    assert _jit.cache_directory().parent == tmp_path / "sgym" / "kernels"


def test_the_uncompiled_function_behind_a_kernel_does_the_same():
    requests, links = np.zeros(3, REQUEST), np.zeros(3, LINK)
    instance = np.zeros(1, INSTANCE)[0]
    for name in ("waiting_root", "first_waiting", "last_waiting"):
        instance[name] = NONE
    for r, score in enumerate((1.0, 3.0, 2.0)):
        requests[r]["waiting_score"] = score
        queue.insert(requests, links, instance, r)
    plain = _jit.python_version(queue.first)
    assert plain(instance) == queue.first(instance) == 1


def test_a_kernel_that_allocates_does_not_compile():
    def allocates(count):
        return np.zeros(count).sum()

    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        assert _jit.kernel(allocates)(3) == 0.0
        return
    with pytest.raises(Exception, match=r"No implementation of function"):
        _jit.kernel(allocates)(3)


def test_a_copy_of_a_state_points_to_its_own_arrays():
    state = sgym.Simulator("tiny", seed=0).state
    copies = (copy.deepcopy(state), pickle.loads(pickle.dumps(state)), state._replace())
    for twin in copies:
        assert twin.address != state.address
        assert twin.requests["arrival"].tolist() == state.requests["arrival"].tolist()
    before = state.cluster[0]["clock"]
    engine.iterate(copies[0])
    engine.advance(copies[0])
    assert copies[0].cluster[0]["clock"] > before
    assert state.cluster[0]["clock"] == before


def test_a_state_with_some_arrays_replaced_is_described_as_if_made_anew():
    state = sgym.Simulator("tiny", seed=0).state
    grown = np.concatenate((state.requests, state.requests))
    twin = state.replaced(requests=grown, dry=np.zeros(3, EVENT))
    again = type(state)(*twin)
    assert twin.requests is grown
    assert twin.events is state.events
    assert twin._table.tolist() == again._table.tolist() != state._table.tolist()
    assert twin._table[0] == grown.ctypes.data
    with pytest.raises(KeyError):
        state.replaced(request=grown)


def test_a_view_with_gaps_is_no_part_of_a_state():
    state = sgym.Simulator("tiny", seed=0).state
    with pytest.raises(ValueError, match=r"strides.*without gaps"):
        state.replaced(requests=state.requests[::2])
    with pytest.raises(ValueError, match="without gaps"):
        state._replace(running=np.asfortranarray(np.ones((2, 3), np.int32)))


def test_an_edit_where_no_kernel_is_compiles_nothing_again():
    package = Path(sgym.__file__).parent
    for source in package.rglob("*.py"):
        place, text = source.relative_to(package).parts[0], source.read_text("utf-8")
        if place in cache.WITHOUT_KERNELS:
            assert "sgym._jit" not in text
        elif place not in ("__init__.py", "_jit"):
            imported = re.findall(r"^ *from sgym\.(\w+)", text, re.M)
            assert not set(imported) & set(cache.WITHOUT_KERNELS)


@_jit.kernel
def _sum_with_requests_for_memory(numbers, far):
    total = 0.0
    for place in range(numbers.size):
        _jit.fetch(numbers, place + far, 2)
        total += numbers[place]
    return total


def test_asking_for_memory_changes_nothing_even_where_there_is_none():
    numbers = np.arange(100.0)
    for far in (1, 10**12, -(10**12)):
        assert _sum_with_requests_for_memory(numbers, far) == 4950.0


def test_the_size_of_a_table_is_that_of_the_array_behind_it():
    state = sgym.Simulator("tiny", seed=0).state
    assert _jit.table_size(type(state)) == state._table.nbytes


def test_requests_lie_in_whole_cache_lines():
    requests = sgym.Simulator("tiny", seed=0).state.requests
    assert REQUEST.itemsize % _jit.LINE == 0
    assert requests.ctypes.data % _jit.LINE == 0
    heads = ("phase", "running_score", "scheduled")  # of lines of fields used together
    assert [REQUEST.fields[name][1] for name in heads] == [0, _jit.LINE, 2 * _jit.LINE]


def test_a_checked_kernel_refuses_places_from_the_end_and_numba_stays_as_it_is(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numba, numpy as np\n"
        "from sgym._jit import kernel\n"
        "@kernel\ndef at(a, k):\n    return a[k]\n"
        "numbers = np.arange(4)\n"
        "for place in (3, -1, 4):\n"
        "    try:\n        print(at(numbers, place))\n"
        "    except IndexError:\n        print('refused')\n"
        "print(numba.njit(lambda a, k: a[k])(numbers, -1))\n"
    )
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    expected = ["3", "3" if numba.config.DISABLE_JIT else "refused", "refused", "3"]
    assert done.stdout.split() == expected, done.stderr
