"""LibreOffice converts a document in its folder of the mount: a document or version each time, and nothing else."""

import io
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.environment import environment_of_others
from tests.support.mounting import wait_until
from tests.support.writing import InProcore, MountedProject, sha256

CONVERSION_S = 120.0
MIME = "application/vnd.oasis.opendocument.text"
MANIFEST = f"""<?xml version="1.0" encoding="UTF-8"?>
<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0" m:version="1.2">
<m:file-entry m:full-path="/" m:media-type="{MIME}"/>
<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/>
</m:manifest>"""
CONTENT = """<?xml version="1.0" encoding="UTF-8"?>
<o:document-content xmlns:o="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:t="urn:oasis:names:tc:opendocument:xmlns:text:1.0" o:version="1.2">
<o:body><o:text><t:p>{text}</t:p></o:text></o:body>
</o:document-content>"""


def odt(text: str) -> bytes:
    """A text document with one paragraph."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("mimetype", MIME)
        archive.writestr("content.xml", CONTENT.format(text=text))
        archive.writestr("META-INF/manifest.xml", MANIFEST)
    return made.getvalue()


def text_of(docx: Path) -> str:
    with zipfile.ZipFile(docx) as archive:
        return archive.read("word/document.xml").decode()


class Converting:
    """`soffice --headless --convert-to KIND NAME`, started inside a folder of a mount."""

    def __init__(self, project: MountedProject, profile: Path) -> None:
        self.project = project
        self.folder = project.path / "Reports"
        self.folder.mkdir()
        self._profile = profile

    def convert(self, kind: str, name: str) -> str:
        """Returns what it complains about; its exit status is 0 whatever happens."""
        words = ["soffice", "--headless", f"-env:UserInstallation=file://{self._profile}"]
        answer = subprocess.run(
            [*words, "--convert-to", kind, name],
            cwd=self.folder,
            env=environment_of_others(),
            capture_output=True,
            text=True,
            timeout=CONVERSION_S,
            check=True,
        )
        return "".join(line for line in answer.stderr.splitlines() if line.startswith("Error"))

    def in_procore(self) -> dict[str, InProcore]:
        """By name, when all is there: the bytes that the mount shows, and nothing but these files."""
        self.project.sync()
        files = {path.removeprefix("Reports/"): file for path, file in self.project.files().items()}
        assert {file.name for file in self.folder.iterdir()} == set(files)
        for name, file in files.items():
            assert file.sha256 == sha256((self.folder / name).read_bytes())
        assert self.project.binned() == []
        return files

    def is_checked_out(self) -> bool:
        query = {"project_id": self.project.sandbox.project_id}
        with self.project.sandbox.session() as session:
            answers = [
                session.get(f"/rest/v1.0/files/{file.id}", params=query)
                for file in self.project.files().values()
            ]
        return any(answer.json()["checked_out_by"] for answer in answers)


@pytest.fixture
def converting(mount_project: Callable[..., MountedProject], tmp_path: Path) -> Converting:
    if shutil.which("soffice") is None:
        pytest.skip("needs LibreOffice (Debian: libreoffice-writer-nogui)")
    return Converting(mount_project(), tmp_path / "profile")


def test_libreoffice_converts_a_document_in_its_folder(converting: Converting) -> None:
    report = converting.folder / "report.odt"
    seen = []
    for text in ("as planned", "as built"):
        report.write_bytes(odt(text))
        for kind in ("pdf", "docx"):
            assert converting.convert(kind, "report.odt") == ""
        assert report.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        assert text in text_of(report.with_suffix(".docx"))
        seen.append(converting.in_procore())
    first, second = seen
    assert {name: file.numbers for name, file in first.items()} == {
        name: [1] for name in ("report.odt", "report.pdf", "report.docx")
    }
    assert {name: file.numbers for name, file in second.items()} == {name: [2, 1] for name in first}
    assert {name: file.id for name, file in second.items()} == {name: file.id for name, file in first.items()}
    # Onto itself it converts nothing, on no disk: it opens what it converts read-only and refuses to save over that.
    assert "0x4c0c" in converting.convert("docx", "report.docx")
    assert converting.in_procore() == second
    wait_until(lambda: not converting.is_checked_out(), "every check-out to be taken back")
