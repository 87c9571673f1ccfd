import pytest

from trackdesk_worker.trackdesk.endpoint import Endpoint, EndpointInvalid, endpoint_url


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://{tenant}.trackdesk.com", "https://shop.trackdesk.com/tracking/conversion/v1"),
        ("https://{tenant}.trackdesk.com/", "https://shop.trackdesk.com/tracking/conversion/v1"),
        ("https://{tenant}.trackdesk.com:443", "https://shop.trackdesk.com/tracking/conversion/v1"),
        ("http://127.0.0.1:8080/{tenant}", "http://127.0.0.1:8080/shop/tracking/conversion/v1"),
        ("https://proxy.example/td", "https://proxy.example/td/tracking/conversion/v1"),
        ("http://[::1]:8080", "http://[::1]:8080/tracking/conversion/v1"),
    ],
)
def test_the_tenant_and_the_path_are_filled_in(base_url: str, url: str) -> None:
    assert endpoint_url(base_url, "shop") == url


@pytest.mark.parametrize("tenant", ["", "a.b", "a/b", "-a", "a-", "a@b", "a:b", "{tenant}", "é", "a" * 64, "a\n"])
def test_a_tenant_that_is_not_one_dns_label_cannot_steer_a_request(tenant: str) -> None:
    with pytest.raises(EndpointInvalid, match="one DNS label"):
        endpoint_url("https://{tenant}.trackdesk.com", tenant)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "trackdesk.com",
        "ftp://trackdesk.com",
        "https://",
        "https://a:99999",
        "https://k@a",
        "https://a?x=1",
        "https://a#x",
    ],
)
def test_a_base_url_that_names_no_plain_endpoint_is_refused(base_url: str) -> None:
    with pytest.raises(EndpointInvalid, match="base URL"):
        endpoint_url(base_url, "shop")


@pytest.mark.parametrize("api_key", ["a\r\nX-Evil: 1", "schlüssel", " s3cret", "s3cret\n"])
def test_a_key_that_is_no_header_value_is_refused_without_showing_it(api_key: str) -> None:
    with pytest.raises(EndpointInvalid) as caught:
        Endpoint("https://a", "POST", api_key)
    assert api_key.strip() not in str(caught.value)


def test_the_key_is_never_shown() -> None:
    assert "s3cret" not in repr(Endpoint("https://a", "POST", "s3cret"))
