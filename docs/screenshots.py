"""Pictures of the pages of `s2d view`, for docs/viewer.md and README.

python docs/screenshots.py [STORE]      writes docs/view/*.png

The store is the quickstart's unless another is named. Needs Debian's chromium and playwright.
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from s2d_store.store import Store
from viewer import app
from viewer.serve import listen

FOLDER = Path(__file__).parent / "view"
STORE = Path(__file__).parents[1] / "runs" / "quickstart" / "store"
WRONG = "outcome = 'wrong'"
SQL = """SELECT round, avg(reward) AS pass_rate, avg(response_tokens) AS tokens, count(*) AS n
FROM graded_rollouts
WHERE run_id LIKE '%stage3%' AND purpose = 'train'
GROUP BY round
ORDER BY round"""


def pages(store: Store) -> dict[str, str]:
    """Paths by the picture's name; of rollouts and stages, those with most to see."""
    rollout = store.sql(
        "SELECT rollout_id FROM tokens WHERE scorer IS NOT NULL "
        "GROUP BY rollout_id ORDER BY sum(abs(kl)) DESC, rollout_id LIMIT 1"
    ).fetchall()[0][0]
    dataset = store.sql(
        "SELECT name FROM datasets WHERE name LIKE '%stage3%' ORDER BY name LIMIT 1"
    ).fetchall()[0][0]
    return {
        "experiment": "/?stage=stage3",
        "rollouts": f"/rollouts?where={quote(WRONG)}",
        "rollout": f"/rollout/{rollout}",
        "compare": "/compare",
        "dataset": f"/datasets/{quote(dataset)}",
        "books": "/books",
        "sql": f"/sql?sql={quote(SQL)}",
    }


@contextmanager
def served(store: Store) -> Iterator[str]:
    """The address of a server of this store."""
    with listen("127.0.0.1", 0) as listening:
        config = uvicorn.Config(app.make(store), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def main() -> None:
    """Take a picture of each page, and a dark one of the first."""
    store = Store.open(Path(sys.argv[1]) if len(sys.argv) > 1 else STORE)
    FOLDER.mkdir(exist_ok=True)
    with served(store) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme in ("light", "dark"):
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": 1280, "height": 820}
            )
            page = context.new_page()
            for name, path in pages(store).items():
                if scheme == "dark" and name != "rollout":
                    continue
                page.goto(url + path, wait_until="networkidle", timeout=120_000)
                page.evaluate("document.querySelector('.where').textContent = 'quickstart'")
                file = FOLDER / f"{name}{'-dark' if scheme == 'dark' else ''}.png"
                page.screenshot(path=file)
                # A few colours are enough, and a third of the size.
                Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=160).save(
                    file, optimize=True
                )
                print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
