"""Which requests the service answers, and with which headers: at the edges, by a real ASGI client."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from sficonv.service.security import PAGE_POLICY, Guard, SecurityHeaders

TOKEN = "a-token-nobody-guesses"
HERE = "detector.example:8642"


async def answer(scope, receive, send):
    """What lies behind: says hello, and brings one header of its own."""
    headers = {"Referrer-Policy": "origin"} if scope["path"] == "/own" else {}
    await PlainTextResponse("hello", headers=headers)(scope, receive, send)


def get(app, path: str = "/api/jobs", **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{HERE}") as client:
            return await client.get(path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return asyncio.run(ask())


# -- the token ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER {TOKEN}"])
def test_the_whole_token_opens_the_api(given):
    assert get(Guard(answer, TOKEN), Authorization=given).text == "hello"


@pytest.mark.parametrize(
    "given",
    [
        *(f"Bearer {TOKEN[:length]}" for length in range(len(TOKEN))),
        f"Bearer {TOKEN}x",
        f"Bearer  {TOKEN}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        f"Aearer {TOKEN}",
        f"Cearer {TOKEN}",
        TOKEN,
        "Bearer",
        "",
    ],
)
def test_no_part_of_the_token_and_no_other_scheme_does(given):
    refused = get(Guard(answer, TOKEN), Authorization=given)
    assert refused.status_code == 401
    assert "Authorization: Bearer TOKEN" in refused.json()["detail"]
    assert refused.headers["www-authenticate"] == "Bearer"


def test_without_a_header_the_api_is_closed():
    assert get(Guard(answer, TOKEN)).status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/static/answer.js", 200), ("/apidocs", 200), ("/api/health", 200),
        ("/api/", 401), ("/api/jobs", 401), ("/api/health/x", 401), ("/api/a", 401), ("/api/z", 401),
    ],
)  # fmt: skip
def test_all_below_api_but_health_needs_the_token(path, status):
    assert get(Guard(answer, TOKEN), path).status_code == status


def test_without_a_token_everything_is_open():
    assert get(Guard(answer, "")).text == "hello"


# -- other sites --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": f"http://{HERE}"}, 200),
        ({"Origin": f"https://{HERE}"}, 200),  # behind a proxy that ends the encryption
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://zzz.example"}, 403),
        ({"Origin": "http://detector.example"}, 403),  # another port is another site
        ({"Origin": f"http://{HERE}.evil.example"}, 403),
        ({"Origin": "null"}, 403),  # a file, or a sandbox
        ({"Origin": "http://["}, 403),  # what no address is
        ({"Origin": "http://[abc]:1"}, 403),
        ({"Origin": f"//{HERE}"}, 403),
        ({"Origin": f"http://{HERE}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # somebody follows a link
    ],
)
def test_a_page_of_another_site_cannot_ask(headers, status):
    headers = {k.replace("-", "_"): v for k, v in headers.items()}
    for path in ("/", "/api/jobs"):
        found = get(Guard(answer, ""), path, **headers)
        assert found.status_code == status
    if status == 403:
        assert found.json() == {"detail": "requests from other sites are refused"}
        with_token = get(Guard(answer, TOKEN), **headers, Authorization=f"Bearer {TOKEN}")
        assert with_token.status_code == 403


# -- headers ------------------------------------------------------------------------------------------------


def test_every_answer_keeps_the_browser_from_more_than_showing_it():
    headers = get(SecurityHeaders(answer)).headers
    assert headers["content-security-policy"] == PAGE_POLICY
    assert {k: headers[k] for k in ("x-content-type-options", "x-frame-options", "cache-control")} == {
        "x-content-type-options": "nosniff", "x-frame-options": "DENY", "cache-control": "no-store",
    }  # fmt: skip
    assert headers["referrer-policy"] == "no-referrer"
    for name in ("cross-origin-opener-policy", "cross-origin-resource-policy"):
        assert headers[name] == "same-origin"
    assert headers["permissions-policy"] == "camera=(), microphone=(), geolocation=()"


def test_a_header_that_an_answer_has_already_stays():
    headers = get(SecurityHeaders(answer), "/own").headers
    assert headers["referrer-policy"] == "origin" and headers["x-frame-options"] == "DENY"


def test_refusals_carry_the_headers_too():
    refused = get(SecurityHeaders(Guard(answer, TOKEN)))
    assert refused.status_code == 401 and refused.headers["x-frame-options"] == "DENY"


def test_the_page_may_run_only_its_own_scripts():
    rules = dict(rule.split(" ", 1) for rule in PAGE_POLICY.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'" and "unsafe" not in PAGE_POLICY


def test_only_the_start_of_an_answer_gets_them():
    sent = []

    async def trailing(scope, receive, send):
        for kind in ("http.response.start", "http.response.body", "http.response.trailers"):
            await send({"type": kind, "headers": []})

    async def collect(message):
        sent.append(len(message["headers"]))

    asyncio.run(SecurityHeaders(trailing)({"type": "http"}, None, collect))
    assert sent[0] > 0 and sent[1:] == [0, 0]


def test_a_request_is_one_whoever_made_the_word():
    http = "".join(["ht", "tp"])  # not the object that the source text names
    sent = []

    async def collect(message):
        sent.append(message)

    scope = {"type": http, "path": "/api/jobs", "headers": []}
    asyncio.run(SecurityHeaders(Guard(answer, TOKEN))(scope, None, collect))
    assert sent[0]["status"] == 401 and b"x-frame-options" in dict(sent[0]["headers"])


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
@pytest.mark.parametrize("wrapped", [SecurityHeaders(answer), Guard(answer, TOKEN)])
def test_what_is_no_request_is_handed_on(kind, wrapped):
    seen = []

    async def behind(scope, receive, send):
        seen.append((scope, receive, send))

    wrapped.app = behind
    given = ({"type": kind}, None, None)
    asyncio.run(wrapped(*given))
    assert seen == [given]
