"""Hold the built book to its rules: every internal link resolves, and nothing is fetched.

    python tests/check_book.py FOLDER     what is wrong, exit code 1 if anything is

A page may link to the web; what it needs to be shown (images, styles, scripts) lies in the folder.
"""

import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

FETCHED = ["img[src]", "script[src]", "link[rel=stylesheet][href]"]


def read_pages(folder):
    """Parse all pages: path -> BeautifulSoup."""
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    return {path.resolve(): BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in paths}


def problems(folder):
    """List the links that lead nowhere and what comes from the web, one line for each."""
    pages = read_pages(folder)
    anchors = {path: {tag["id"] for tag in page.select("[id]")} for path, page in pages.items()}
    found = [] if pages else [f"{folder}: no page is there; run `make book`"]
    for path, page in pages.items():
        for tag in page.select(", ".join(["a[href]", *FETCHED])):
            address = tag.get("href") or tag.get("src") or ""
            if fault := fault_of(address, path, anchors, fetched=tag.name != "a"):
                found.append(f"{path.name}: {address}: {fault}")
    return found


def fault_of(address, path, anchors, fetched):
    """Say what is wrong with an address on a page; None if nothing is."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return "comes from the web" if fetched and parts.scheme != "data" else None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    wanted = unquote(parts.fragment)
    if wanted and wanted not in anchors.get(target, {wanted}):
        return "no such anchor"
    return None


def main(folder):
    """Check the book in a folder; return the exit code."""
    found = problems(Path(folder))
    print("\n".join(found) or "every internal link resolves")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
