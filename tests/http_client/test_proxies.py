"""Proxies of the environment: none for this machine, and one line for those that cannot be used."""

import asyncio
import contextlib
import os

import httpx
import pytest

from evaluation.toolbench.http_client.exchange import new_http_client
from evaluation.toolbench.http_client.proxies import proxy_for
from evaluation.toolbench.inference.engine.constraint import TokenSet
from evaluation.toolbench.inference.engine.remote.engine import ServerEngine
from evaluation.toolbench.inference.engine.remote.handshake import Needs
from evaluation.toolbench.inference.engine.remote.settings import ServerSettings
from evaluation.toolbench.inference.engine.request import GenerationRequest
from evaluation.toolbench.inference.errors import ConfigError
from evaluation.toolbench.virtual_api.client import ApiClient
from tests.helpers.fake_generation_server import SEPARATOR, SPELLINGS, VOCAB_SIZE, FakeServer, made_up_token, running

FAR = httpx.URL("http://gpu7.cluster:8000/v1")
NEEDS = Needs("toolgen", VOCAB_SIZE, 200, SPELLINGS, SEPARATOR)
SOCKS = "socks5://127.0.0.1:1080"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Sets proxy variables; none is there before."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return lambda **variables: [monkeypatch.setenv(*each) for each in variables.items()]


def open_and_close(url):
    client = new_http_client(url, connect_timeout_s=1)
    asyncio.run(client.aclose())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "0.0.0.0", "a.localhost"])
@pytest.mark.parametrize("proxy", [SOCKS, "socks://h:1", "nonsense://x", "http://proxy:3128"])
def test_what_stays_on_this_machine_never_goes_through_a_proxy(environment, host, proxy):
    environment(ALL_PROXY=proxy, http_proxy=proxy, HTTPS_PROXY=proxy)
    assert proxy_for(httpx.URL(f"http://{host}:8080/virtual")) is None
    open_and_close(httpx.URL(f"http://{host}:8080/virtual"))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ALL_PROXY": SOCKS}, r"ALL_PROXY=socks5://127.0.0.1:1080 is a SOCKS proxy.*pip install 'httpx\[socks\]'"),
        ({"all_proxy": "socks://u:secret@h:1"}, "all_proxy=socks://h:1 is not a proxy that can be used"),
        ({"HTTP_PROXY": "ftp://h:1"}, "HTTP_PROXY=ftp://h:1 is not a proxy"),
        ({"HTTP_PROXY": "http://h:port"}, "HTTP_PROXY is not the URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line_with_the_variable_and_the_remedy(environment, variables, words):
    environment(**variables)
    with pytest.raises(ConfigError, match=words) as error:
        open_and_close(FAR)
    assert "NO_PROXY=gpu7.cluster" in str(error.value)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [ApiClient, lambda url: ServerEngine(ServerSettings.of(url), NEEDS)])
def test_a_constructor_that_fails_for_it_leaves_nothing_behind_that_fails_again(environment, make):
    environment(ALL_PROXY=SOCKS)
    with pytest.raises(ConfigError, match="ALL_PROXY") as error:
        make(str(FAR))
    assert error.value.__context__ is None


def test_a_proxy_that_is_not_for_this_server_does_no_harm(environment):
    environment(ALL_PROXY=SOCKS, HTTP_PROXY="proxy:3128")
    assert proxy_for(FAR) == "http://proxy:3128"
    open_and_close(FAR)
    environment(NO_PROXY=".cluster")
    assert proxy_for(FAR) is None


def test_requests_to_another_machine_go_through_the_proxy(environment):
    """The fake server stands in for the proxy: it is sent whole URLs."""

    class Proxy(FakeServer):
        def answer(self, method, path, key, body):
            assert path.startswith("http://gpu7.cluster:8000/")
            return super().answer(method, path.removeprefix("http://gpu7.cluster:8000"), key, body)

    with running(Proxy()) as server:
        environment(http_proxy=server.url.removesuffix("/v1"))
        with contextlib.closing(ServerEngine(ServerSettings.of(str(FAR)), NEEDS)) as engine:
            request = GenerationRequest((1, 2, 3, 4), 1, TokenSet([2000]))
            assert engine.generate(request).token_ids == (made_up_token([1, 2, 3, 4]),)
