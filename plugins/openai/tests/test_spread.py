"""When many connections are spread over several pools."""

from genreg_openai.spread import spread


def test_a_proxy_is_left_to_the_client(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert [spread(count) is None for count in (1, 8, 9)] == [True, True, False]
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert spread(64) is None
