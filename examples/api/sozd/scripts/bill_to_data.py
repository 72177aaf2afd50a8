"""The page of one bill as a record: its status, its properties and its documents."""

import lxml.html


def process(page: bytes) -> dict[str, object]:
    root = lxml.html.fromstring(page)
    record = {
        "status": "".join(root.xpath('//span[@id="current_oz_status"]//text()')).strip(),
        "documents": [
            {"name": link.text_content().strip(), "url": link.get("href")}
            for link in root.xpath('//a[contains(@href, "/download/")]')
        ],
    }
    for row in root.xpath("//table//tr[count(td) = 2]"):
        name, value = (cell.text_content().strip() for cell in row.xpath("td"))
        record[name.lower()] = value
    return record
