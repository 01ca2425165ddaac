"""What `make install` would do: nothing that root runs may lie where another user writes."""

import os
import re
import subprocess
from pathlib import Path

from procorefs.config import parse_options

ROOT = Path(__file__).resolve().parents[2]


def test_installed_commands_lead_into_a_copy_of_roots(tmp_path: Path) -> None:
    words = [
        "make",
        "--dry-run",
        "install",
        f"PREFIX={tmp_path}/opt",
        f"SBIN={tmp_path}",
        f"LOCAL_BIN={tmp_path}",
    ]
    environment = os.environ | {"PYTHON": "/home/robin/.pyenv/shims/python3"}
    planned = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    links = [line.split()[2] for line in planned.splitlines() if line.startswith("ln ")]
    assert links == [f"{tmp_path}/opt/bin/mount.fuse.procorefs", f"{tmp_path}/opt/bin/procorefs"]
    assert f"chown -R --no-dereference 0:0 {tmp_path}/opt" in planned
    assert "--editable" not in planned
    assert "/home/robin" not in planned
    assert f"\numask 022; /usr/bin/python3 -m venv {tmp_path}/opt\n" in planned


def test_the_container_recipe_uses_settings_and_packages_that_exist() -> None:
    recipe = ROOT / "packaging" / "container"
    compose, dockerfile = (recipe / "compose.yaml").read_text(), (recipe / "Dockerfile").read_text()
    documented = (ROOT / "docs" / "configuration.md").read_text()
    variables = set(re.findall(r"^ +(PROCOREFS_\w+):", compose, re.MULTILINE))
    assert len(variables) == 5
    assert {name for name in variables if f"`{name}`" not in documented} == set()
    needed = re.search(r"^DEBIAN := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert needed is not None
    built_with = re.findall(r"(?:lib\S+-dev|gcc|pkg-config|python3-\S+)(?= |$)", dockerfile, re.MULTILINE)
    assert built_with
    assert set(built_with) <= set(needed[1].split())
    options = re.search(r'"-o", "([^"]+)"', compose)
    assert options is not None
    parsed = parse_options([options[1]])
    assert (parsed.allow_other, parsed.limiter) == (True, "redis://redis:6379/0")


def test_the_container_recipe_keeps_its_secrets_from_images_and_arguments() -> None:
    recipe = ROOT / "packaging" / "container"
    assert "packaging" in (recipe / "Dockerfile.dockerignore").read_text().splitlines()
    lines = (recipe / "compose.yaml").read_text().splitlines()
    expanded = [line.split(":")[0].strip() for line in lines if re.search(r"(?<!\$)\$\{?\w*PASSWORD", line)]
    assert expanded == ["PROCOREFS_REDIS_PASSWORD", "REDIS_PASSWORD"]
