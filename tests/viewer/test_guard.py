"""Who may read what `s2d view` serves, and what a page may load."""

from __future__ import annotations

import pytest

from s2d_store.errors import InputError
from s2d_store.store import Store
from tests.support import viewed
from viewer import serve


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_name_is_refused_on_loopback(sound: Store, host: str) -> None:
    answer = viewed.client(sound).get("/rollouts", headers={"host": host})
    assert answer.status_code == 421
    assert "s2d view --host" in answer.text and "<html" not in answer.text


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8265", "LOCALHOST"])
def test_loopback_has_several_names(sound: Store, host: str) -> None:
    assert viewed.client(sound).get("/rollouts", headers={"host": host}).status_code == 200


def test_nothing_but_reading(sound: Store) -> None:
    client = viewed.client(sound)
    assert client.post("/rollouts").status_code == 405
    assert client.delete("/rollouts").status_code == 405
    assert client.head("/rollouts").status_code == 200


def test_another_site_gets_nothing(sound: Store) -> None:
    client = viewed.client(sound)
    asked = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/rollouts.json", headers=asked).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/rollouts", headers=link).status_code == 200


@pytest.mark.parametrize("path", ["/rollouts", "/rollouts.json", "/nowhere", "/static/style.css"])
def test_every_answer_says_what_may_be_loaded(sound: Store, path: str) -> None:
    headers = viewed.client(sound).get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_another_address_wants_the_token_once(sound: Store) -> None:
    client = viewed.client(sound, token="secret", host="0.0.0.0")
    asked = {"host": "lab.example:8265"}
    assert client.get("/rollouts", headers=asked).status_code == 403
    assert client.get("/rollouts?token=other", headers=asked).status_code == 403
    assert client.get("/static/style.css", headers=asked).status_code == 403
    let_in = client.get("/rollouts?order=longest&token=secret", headers=asked)
    assert (let_in.status_code, let_in.headers["location"]) == (303, "/rollouts?order=longest")
    cookie = let_in.headers["set-cookie"]
    assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()
    assert "secret" in cookie
    asked["cookie"] = cookie.partition(";")[0]
    client.cookies.clear()
    assert client.get("/rollouts", headers=asked).status_code == 200
    asked["cookie"] = asked["cookie"].replace("secret", "guess")
    assert client.get("/rollouts", headers=asked).status_code == 403


def test_a_redirect_stays_here(sound: Store) -> None:
    client = viewed.client(sound, token="secret", host="0.0.0.0")
    answer = client.get("//evil.example/x?token=secret")
    assert not answer.headers.get("location", "/").startswith("//")


def test_addresses() -> None:
    loopback = ["localhost", "127.0.0.1", "127.8.8.8", "::1"]
    others = ["0.0.0.0", "::", "192.168.0.4", "lab.example"]
    assert all(map(serve.is_loopback, loopback)) and not any(map(serve.is_loopback, others))
    with serve.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen at 127.0.0.1, port {port}"):
            serve.listen("127.0.0.1", port)
    with pytest.raises(InputError, match="port 70000"):
        serve.listen("127.0.0.1", 70000)
