"""A page of search results as records: number, name and link of each bill."""

import re

import lxml.html


def process(page: bytes) -> dict[str, object]:
    root = lxml.html.fromstring(page)
    total = "".join(root.xpath('//span[contains(@class, "col_oz")]//text()'))
    return {
        "total": int(re.sub(r"\D", "", total) or 0),
        "data": [
            {
                "num": link.get("data-law_number"),
                "name": link.text_content().strip(),
                "url": link.get("href"),
            }
            for link in root.xpath("//*[@data-law_number]")
        ],
    }
