"""Try the backfill form in a real browser: fill it in, start it, wait for its end, open its artifacts.

    pip install playwright            # and a Chromium, for example your distribution's
    python tests/support/browser.py [--chromium /usr/bin/chromium] [--pictures FOLDER]

It starts everything that `make serve` starts, in its own folder, and clicks as a person does. It is not part of the test suite,
because it needs a browser. It saves screenshots for a person to look at.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from playwright.sync_api import Page, sync_playwright

from sbert.table.delta import Table
from tests.support.prefect_stack import Stack, stack
from tests.support.tables import rows, write
from tests.support.tiny_models import save_tiny

NUM_OBJECTS, ROWS = 6, 200


def choose(page: Page, title: str, kind: str) -> None:
    """Click the tab `kind` below the field `title`."""
    field = page.locator(f"text={title} (Optional)").first.bounding_box()
    assert field is not None
    tabs = page.get_by_text(kind, exact=True)

    def below(number: int) -> float:
        box = tabs.nth(number).bounding_box()
        return box["y"] - field["y"] if box and box["y"] > field["y"] else float("inf")

    tabs.nth(min(range(tabs.count()), key=below)).click()
    page.wait_for_timeout(300)


def next_area(page: Page, title: str) -> int:
    """Return the number of the first text area below the field `title`."""
    field = page.locator(f"text={title} (Optional)").first.bounding_box()
    assert field is not None
    areas = page.locator("textarea")
    for number in range(areas.count()):
        box = areas.nth(number).bounding_box()
        if box and box["y"] > field["y"]:
            return number
    raise AssertionError(title)


def fill_and_start(page: Page, served: Stack, model: str, pictures: Path) -> str:
    """Fill in the form, submit it, and return the id of the run."""
    identity = served.deployments()["backfill"]["id"]
    page.goto(f"{served.api.removesuffix('/api')}/deployments/deployment/{identity}/run", wait_until="domcontentloaded")
    page.wait_for_selector("text=Globs of object names to work on")
    choose(page, "Include", "list")
    page.get_by_text("Add item").first.click()
    page.wait_for_timeout(300)
    page.locator("textarea").nth(next_area(page, "Include")).fill("tickets-[0-2].jsonl")
    choose(page, "Model", "str")
    page.locator("textarea").nth(next_area(page, "Model")).fill(model)
    page.screenshot(path=pictures / "form.png")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_timeout(3_000)
    runs = [run for run in served.runs() if run["deployment_id"] == identity]
    return str(runs[0]["id"])


def look(served: Stack, model: str, chromium: str, pictures: Path) -> None:
    """Run the whole session and check the table that it made."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        run_id = fill_and_start(page, served, model, pictures)
        base = served.api.removesuffix("/api")
        page.goto(f"{base}/runs/flow-run/{run_id}", wait_until="domcontentloaded")
        page.get_by_text("Completed", exact=True).first.wait_for(timeout=120_000)
        page.get_by_text("backfill table · 1 of 1 splits (new object)").first.wait_for(timeout=10_000)
        page.screenshot(path=pictures / "run.png")
        page.get_by_role("tab", name="Artifacts").or_(page.get_by_text("Artifacts", exact=True)).first.click()
        page.wait_for_timeout(2_000)
        page.screenshot(path=pictures / "artifacts.png")
        for key in ("plan", "refresh-report"):
            artifact = next(
                item for item in served.call("POST", "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
                if item["key"] == key
            )  # fmt: skip
            page.goto(f"{base}/artifacts/artifact/{artifact['id']}", wait_until="domcontentloaded")
            page.wait_for_timeout(3_000)
            page.screenshot(path=pictures / f"{key}.png")
        assert page.get_by_text("Rejected rows by reason").count() > 0
        browser.close()
    table = Table.open(str(served.folder / "table"))
    assert table.num_rows == 3 * ROWS
    assert table.encoder.model == model
    print(f"ok: {table.num_rows} rows; pictures in {pictures}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=Path, default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sbert-browse-") as name:
        folder = Path(name)
        pictures = asked.pictures or Path(tempfile.mkdtemp(prefix="sbert-pictures-"))
        pictures.mkdir(exist_ok=True)
        for number in range(NUM_OBJECTS):
            lines = [
                *rows(number * ROWS, ROWS),
                {"id": f"blank {number}", "text": " "},
                {"id": f"none {number}", "text": None},
            ]
            write(folder / f"raw/tickets-{number}.jsonl", lines)
        with stack(folder) as served:
            look(served, save_tiny(folder / "model"), asked.chromium, pictures)


if __name__ == "__main__":
    main()
