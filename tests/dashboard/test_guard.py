"""What is refused: other sites, other hosts, anything but reading, and ways out of the folder."""

import pytest

from research_eval.dashboard.app import ANSWERS, FILES, PAGES
from research_eval.dashboard.guard import LOOPBACK, Admission
from research_eval.records import RunStatus
from research_eval.store import Store
from research_eval.testing.runs import new_run

METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
TOKEN = "a-token-of-a-test"


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_reading_is_known(client, method):
    for path in ("/", "/runs", "/api/v1/runs", "/api/v1/runs/run0", "/static/x/style.css"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_every_address_can_be_asked_for_its_head(client):
    for path in ("/runs", "/api/v1/runs", "/api/v1/events", "/help"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "", "a:b:c"],
)
def test_another_host_is_refused_everywhere(client, host):
    for path in ("/", "/runs", "/api/v1/runs", "/nope"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "run0" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "[::1]:80"])
def test_names_of_this_machine_are_known_with_any_port(client, host):
    assert client.get("/api/v1/runs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_get_nothing_but_a_link(client, site):
    asked = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    linked = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    framed = linked | {"Sec-Fetch-Dest": "iframe"}
    assert client.get("/api/v1/runs", headers=asked).status_code == 403
    assert client.get("/api/v1/runs", headers=linked).status_code == 403
    assert client.get("/runs", headers=framed).status_code == 403
    assert client.get("/runs", headers=linked).status_code == 200
    assert client.get("/api/v1/runs", headers={"Origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/runs", "/api/v1/runs", "/api/v1/nope", "/static/x/y"])
def test_every_answer_has_the_headers_of_a_strict_page(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


WAYS_OUT = [
    "../runs.db",
    "../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "sample.txt%00.html",
    "link.txt",
    "folder/secret.txt",
]


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_path_leads_out_of_a_folder(client, tmp_path, way):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "link.txt").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    for start in ("/reports/", "/static/x/", "/api/v1/runs/experts/files/"):
        answer = client.get(start + way)
        assert answer.status_code == 404, answer.text
        assert "secret" not in answer.text.replace("secret.txt", "")


def test_a_log_that_is_a_link_to_elsewhere_is_not_shown(client_of, tmp_path):
    (tmp_path / "secret.txt").write_text("the secret")
    file = tmp_path / "linked.db"
    with Store.open(file, create=True) as store:
        run = store.start(new_run("a"))
        (run.folder / "run.log").symlink_to(tmp_path / "secret.txt")
        run.finish(RunStatus.COMPLETED)
    assert client_of(file).get("/api/v1/runs/a/log").json()["text"] == ""


def test_an_address_that_is_too_long_is_refused(client):
    answer = client.get("/api/v1/runs", params={"q": "x" * 17_000})
    assert answer.status_code == 414


def test_a_header_cannot_be_smuggled_in(client):
    answer = client.get("/runs/a%0d%0aSet-Cookie:%20x=1")
    assert "set-cookie" not in answer.headers
    answer = client.get("/reports/a%0d%0aSet-Cookie:%20x=1")
    assert "set-cookie" not in answer.headers


def test_a_token_is_shown_once_and_leaves_the_address(client_of, filled):
    client = client_of(filled, admission=Admission(LOOPBACK, token=TOKEN))
    assert client.get("/api/v1/runs").status_code == 401
    assert client.get("/runs?token=wrong").status_code == 401
    answer = client.get(f"/runs?q=seed%3E1&token={TOKEN}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?q=seed%3E1")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/api/v1/runs").status_code == 200


def test_the_token_does_not_send_a_browser_elsewhere(client_of, filled):
    client = client_of(filled, admission=Admission(LOOPBACK, token=TOKEN))
    answer = client.get(f"//evil.example/x?token={TOKEN}", follow_redirects=False)
    assert not answer.headers.get("location", "").startswith("//")


def test_numeric_addresses_are_hosts_only_where_all_are_listened_on(client_of, filled):
    everywhere = client_of(filled, admission=Admission(LOOPBACK, any_address=True, token=TOKEN))
    headers = {"Host": "192.0.2.1:8765", "Cookie": f"research_eval_dashboard={TOKEN}"}
    assert everywhere.get("/api/v1/runs", headers=headers).status_code == 200
    assert everywhere.get("/api/v1/runs", headers=headers | {"Host": "x.y"}).status_code == 421


def test_the_tables_of_addresses_are_all_there_is(client):
    assert all(path.startswith("/") for path in (*ANSWERS, *FILES, *PAGES))
    assert client.get("/docs").status_code == 404
    assert client.get("/openapi.json").status_code == 404
