"""Archives by path: read as the folder in them is, within bounds, and nothing is written outside the cache."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.core.errors import InputError
from memplan.traces import open_profile
from memplan.traces.directory import Profile

TABLE = b"Name,Start Time(us),Duration(us),Type\nMatMul,1760000000000000.125,50.5,MatMulV2\n"
Writer = Callable[[Path, Mapping[str, bytes]], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEMPLAN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def texts(profile: Profile) -> str:
    return "\n".join(f"{note.file}: {note.text}" for note in profile.notes)


def counts(profile: Profile) -> dict[int, int]:
    return {number: len(profile.rank(number).kernels() or ()) for number in profile.ranks}


@settings(max_examples=25)
@given(
    ranks=st.sets(st.integers(0, 9), min_size=1, max_size=3),
    name=st.sampled_from(["p.zip", "p.tar", "p.tar.gz", "P.TGZ"]),
    slash=st.sampled_from(["/", "\\"]),
    above=st.sampled_from(["", "run", "a b/中文"]),
)
def test_an_archive_reads_as_the_folder_in_it(ranks: set[int], name: str, slash: str, above: str) -> None:
    files = {
        slash.join(filter(None, (*above.split("/"), f"rank{rank}_ascend_pt", *place.split("/")))): content
        for rank in ranks
        for place, content in (
            ("ASCEND_PROFILER_OUTPUT/kernel_details.csv", TABLE), (f"profiler_info_{rank}.json", b"{}"),
        )
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        (write_zip if name.endswith("zip") else write_tar)(path, files)
        before = path.read_bytes()
        for _ in range(2):  # unpacked, then found unpacked
            assert counts(open_profile(path)) == dict.fromkeys(sorted(ranks), 1)
        assert path.read_bytes() == before
        assert [file.name for file in Path(folder).iterdir()] == [name]


@pytest.mark.parametrize("name", ["../../outside.csv", "/tmp/outside.csv", "C:\\outside.csv", "a/../../outside.csv"])
@pytest.mark.parametrize(("archive", "write"), [("p.zip", write_zip), ("p.tar.gz", write_tar)])
def test_nothing_is_written_outside(tmp_path: Path, name: str, archive: str, write: Writer) -> None:
    write(tmp_path / archive, {name: TABLE, "kernel_details.csv": TABLE})
    profile = open_profile(tmp_path / archive)
    assert counts(profile) == {0: 1}
    assert "not unpacked: leads outside" in texts(profile)
    assert not list(tmp_path.parent.rglob("outside.csv"))


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_bytes(TABLE)
    with tarfile.open(tmp_path / "p.tar", "w") as archive:
        for kind, name in ((tarfile.SYMTYPE, "kernel_details.csv"), (tarfile.LNKTYPE, "b.csv"), (tarfile.CHRTYPE, "c")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, str(tmp_path / "secret.csv")
            archive.addfile(entry)
    with pytest.raises(InputError, match="no CANN profile here"):
        open_profile(tmp_path / "p.tar")


@pytest.mark.parametrize("damage", ["cut", "flip"])
@pytest.mark.parametrize(("archive", "write"), [("p.zip", write_zip), ("p.tar.gz", write_tar)])
def test_damaged_archives_are_read_noted_or_refused(tmp_path: Path, damage: str, archive: str, write: Writer) -> None:
    files = {f"rank{rank}_ascend_pt/ASCEND_PROFILER_OUTPUT/kernel_details.csv": TABLE * 40 for rank in range(4)}
    write(tmp_path / archive, files)
    whole = (tmp_path / archive).read_bytes()
    for at in range(1, len(whole), max(len(whole) // 40, 1)):
        (tmp_path / archive).write_bytes(whole[:at] if damage == "cut" else whole[:at] + b"\xa5" + whole[at + 1 :])
        try:
            profile = open_profile(tmp_path / archive)
            found = counts(profile)
        except InputError:
            continue
        assert len(found) == 4 or texts(profile), f"ranks are lost in silence at {at}"


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memplan.traces.tables import gzip_files

    monkeypatch.setattr(gzip_files, "_HARMLESS", 1 << 20)
    write_zip(tmp_path / "p.zip", {"kernel_details.csv": bytes(40 << 20)})
    write_tar(tmp_path / "p.tar.gz", {"kernel_details.csv": bytes(40 << 20)})
    for name in ("p.zip", "p.tar.gz"):
        with pytest.raises(InputError, match="unpacks to far more"):
            open_profile(tmp_path / name)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()], "nothing of it is left"


def test_a_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 30
    (tmp_path / "p.tar.gz").write_bytes(gzip.compress(entry.tobuf() + bytes(1 << 20)))
    with pytest.raises(InputError, match="far too long"):
        open_profile(tmp_path / "p.tar.gz")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.zip").write_bytes(b"no archive")
    with pytest.raises(InputError, match="can't be unpacked"):
        open_profile(tmp_path / "p.zip")
