"""Pictures of pages, compared so loosely that fonts and figures may differ, but no part be lost.

    python -m tests.support.pictures      # after pages changed: those of the demo's store anew

Each is kept as 32 x 32 greys. How far another picture is from it is measured in units of how far an
empty page is: 0 for the same picture, 1 for one that shows nothing.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, ViewportSize, sync_playwright

from s2d_store.store import Store
from viewer.pages import PAGES

FOLDER = Path(__file__).parents[1] / "viewer" / "pictures"
SIDE = 32
VIEWPORT: ViewportSize = {"width": 1400, "height": 900}
# A page that lost its style or its main part is 0.8 to 6 away, one in another font at most 0.3.
MOST = 0.5


def paths(store: Store) -> dict[str, str]:
    """Each page's path by its name, with the first rollout and dataset that the store has."""
    rollout = store.sql("SELECT min(rollout_id) FROM tokens WHERE scorer IS NOT NULL").fetchall()
    dataset = store.sql("SELECT min(dataset_id) FROM datasets").fetchall()
    named = {"rollout_id": rollout[0][0], "position": 2, "dataset_id": dataset[0][0]}
    return {page.name: page.path.format(**named) for page in PAGES}


def distance(picture: bytes, name: str) -> float:
    """How far a PNG is from the stored picture of that name, see above."""
    stored = np.asarray(Image.open(FOLDER / f"{name}.png"), float)
    found = np.asarray(_small(picture), float)
    empty = np.abs(stored - np.median(stored)).mean()
    return float(np.abs(found - stored).mean() / empty)


def _small(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        yield made
        made.close()


def main() -> None:
    """Take every page's picture."""
    from tests.support import viewed
    from viewer import demo

    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        store = demo.make(Path(folder) / "store")
        with viewed.served(store) as url:
            page = browser.new_page(viewport=VIEWPORT)
            for name, path in paths(store).items():
                page.goto(url + path, wait_until="networkidle")
                _small(page.screenshot()).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
