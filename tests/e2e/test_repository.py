"""What holds for the repository as a whole: targets, links, figures, and no trace of one machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from skinoct.checkpoint import default_checkpoint

ROOT = Path(__file__).parents[2]
LARGEST_FIGURE = 600_000


def tracked() -> list[Path]:
    """All files of the repository; without git, those that a checkout would have."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_make_alone_prints_the_targets() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "demo", "serve", "test", "check", "bench"):
        assert re.search(rf"^\s+make {target}\s+\S", said, re.MULTILINE), target


def test_no_file_names_a_place_on_one_machine() -> None:
    places = ["work/main", "work/shared", "root/", "opt/fiji-test", "tmp/sk/"]
    pattern = re.compile(rf"(?<![\w.$}}~])/(?:{'|'.join(places)})".encode())
    found = []
    for path in tracked():
        if path.suffix not in (".safetensors", ".png", ".jpg", ".tif", ".zip"):
            found += [f"{path.relative_to(ROOT)}: {hit.decode()}" for hit in pattern.findall(path.read_bytes())]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_gives_the_limits_of_the_checkpoint_that_is_used() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    used = default_checkpoint(ROOT / "models" / "checkpoints")
    assert set(re.findall(r"phantom-v\d+", text)) == {used}
    assert f"](models/checkpoints/{used}/README.md)" in text


def test_figures_are_small() -> None:
    for picture in (ROOT / "docs").rglob("*.*"):
        if picture.suffix in (".png", ".jpg", ".gif"):
            assert picture.stat().st_size <= LARGEST_FIGURE, picture.name


def test_ci_is_a_script_that_can_be_started() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert "make check test test-slow demo" in script.read_text()
