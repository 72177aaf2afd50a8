"""Imitations of the ten APIs that `examples/api` archives, all in one server.

Their paths, parameters and keys are those of the real ones; what they hold is made up.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Final

from holdfast.testing.api_listing import Listing, Record
from holdfast.testing.api_server import ServedFile
from holdfast.testing.loopback import Reply, Request, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.testing.api_server import ApiServer

COUNTS: Final = {
    "budgetreg": 1230, "budgetrgz": 610, "budgettofk": 87, "budgetsclassif": 905, "etrust": 502,
    "esklp": 240, "fpreceivers": 133, "hhemployers": 170, "subsidies": 101, "sozd": 34,
}  # fmt: skip
"""Records of each, by the name of its example."""


def imitate(api: ApiServer) -> ApiServer:
    """Adds the ten APIs to a server."""
    api.listings |= {
        "/epbs/registry/ubpandnubp/data": _budget("budgetreg", _organisation),
        "/epbs/registry/rgz/data": _budget("budgetrgz", _assignment),
        "/epbs/registry/7710568760-TOFK/data": _budget("budgettofk", _branch),
        "/epbs/registry/7710568760-BUDGETS/data": _budget("budgetsclassif", _budget_code),
        "/app/scc/portal/api/v1/portal/ca/list": Listing(
            _made("etrust", _authority), size_param="recordsOnPage"
        ),
        "/rest/search_smnn": Listing(
            _made("esklp", _medicine), data="results", total="count_total", size_param="per_page"
        ),
        "/v1/natprojects/fpreceivers": Listing(
            _made("fpreceivers", _receiver), data="items", size_param="page_size", largest_size=45
        ),
        "/v1/subsidy/": Listing(
            _made("subsidies", _subsidy), data="items", size_param="page_size", largest_size=45
        ),
        "/employers": _employers(api),
        "/oz": _bills(),
    }
    api.details["/employers/"] = _employer_page
    api.fallbacks["/bill/"] = _bill_page
    for number in range(1, COUNTS["sozd"] + 1):
        for kind in ("text", "note"):
            api.files[f"/download/{number}/{kind}.pdf"] = ServedFile(2000 + number, seed=number)
    return api


def _made(name: str, make: Callable[[int], Record]) -> list[Record]:
    return [make(number) for number in range(1, COUNTS[name] + 1)]


def _budget(name: str, make: Callable[[int], Record]) -> Listing:
    """The registries of one portal page alike."""
    return Listing(
        _made(name, make), total="recordCount", pages="pageCount", page_param="pageNum",
        size_param="pageSize",
    )  # fmt: skip


def _day(number: int) -> str:
    return f"2026-{1 + number % 12:02}-{1 + number % 28:02}"


def _organisation(number: int) -> Record:
    registered = {"regNum": f"{number:08}", "lastRegDate": _day(number)}
    return {"info": registered, "heads": [{"fio": f"Head {number}"}] * (number % 3)}


def _assignment(number: int) -> Record:
    return {
        "info": {"regNum": f"A{number:06}", "updateDate": _day(number)},
        "services": [{"code": f"{number}.{part}", "volume": part * 10} for part in range(3)],
    }


def _branch(number: int) -> Record:
    return {
        "info": {"regNum": f"{9500 + number}", "updateDate": _day(number)},
        "name": f"Treasury branch {number}",
    }


def _budget_code(number: int) -> Record:
    return {"guid": f"0000-{number:04x}", "loaddate": _day(number), "budgetname": f"B{number}"}


def _authority(number: int) -> Record:
    return {
        "РеестровыйНомер": number,
        "Название": f"Удостоверяющий центр {number}",
        "СтатусАккредитации": {"ДействуетС": _day(number), "Статус": "Действует"},
    }


def _medicine(number: int) -> Record:
    return {"num_reg_version": f"LP-{number:05}-1", "trade_name": f"Medicine {number}"}


def _receiver(number: int) -> Record:
    return {"inn": f"{7700000000 + number}", "name": f"Receiver {number}", "sum": number * 100.5}


def _subsidy(number: int) -> Record:
    return {"id": number, "info": {"dateUpdate": _day(number)}, "sum": number * 1000}


def _employers(api: ApiServer) -> Listing:
    """Pages count from 0, and each record has a link to itself."""
    records = [
        {"id": str(number), "name": f"Employer {number}", "url": f"{api.url}/employers/{number}"}
        for number in range(1, COUNTS["hhemployers"] + 1)
    ]
    return Listing(
        records, data="items", total="found", pages="pages", first_page=0, size_param="per_page",
        largest_size=100,
    )  # fmt: skip


def _employer_page(key: str) -> Record | None:
    known = key.isdigit() and 0 < int(key) <= COUNTS["hhemployers"]
    return {"id": key, "site_url": f"https://employer{key}.test"} if known else None


def _bills() -> Listing:
    """A list that is there as HTML only, ten to a page."""
    bills = [
        {"num": f"{number}-8", "name": f"On matter {number}"}
        for number in range(1, COUNTS["sozd"] + 1)
    ]
    return Listing(
        bills, page_param="page_34F6AE40-BDF0-408A-A56E-E48511C6B618", default_size=10,
        render=_bill_list,
    )  # fmt: skip


def _bill_list(document: Record) -> Reply:
    rows = "".join(
        f'<tr><td><a data-law_number="{bill["num"]}" href="/bill/{bill["num"]}">'
        f"{html.escape(bill['name'])}</a></td></tr>"
        for bill in document["data"]
    )
    return _page(
        f'<span class="col_oz">({document["total"]})</span><table class="tbl_search_results">'
        f"<tr><th>Bill</th></tr>{rows}</table>"
    )


def _bill_page(request: Request) -> Reply:
    number = request.path.removeprefix("/bill/").removesuffix("-8")
    if not number.isdigit():
        return json_reply({"error": "not found"}, status=404)
    rows = {"Committee": f"Committee {int(number) % 5}", "Topic": f"Topic {int(number) % 7}"}
    table = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in rows.items())
    links = "".join(
        f'<a class="doc" href="/download/{number}/{kind}.pdf">{kind}</a>'
        for kind in ("text", "note")
    )
    return _page(f'<span id="current_oz_status">Read</span><table>{table}</table>{links}')


def _page(body: str) -> Reply:
    text = f"<!doctype html><html><head><title>Bills</title></head><body>{body}</body></html>"
    kind: dict[str, Any] = {"Content-Type": "text/html; charset=utf-8"}
    return Reply(body=text.encode(), headers=kind)
