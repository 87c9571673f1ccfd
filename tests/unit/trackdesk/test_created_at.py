import pytest

from trackdesk_worker.trackdesk.created_at import CreatedAt, dated

ACCEPTED_MS = 1_800_000_000_999  # 2027-01-15T08:00:00.999Z
BODY = '{"conversionTypeCode":"sale","cid":"x","amount":{"value":"100.50"},"customerId":"Zoë","status":"S"}'.encode()


@pytest.mark.parametrize("late_s", [0, 300])
def test_a_delivery_in_time_is_sent_as_it_was_accepted(late_s: int) -> None:
    assert dated(BODY, accepted_ms=ACCEPTED_MS, now_ms=ACCEPTED_MS + late_s * 1000) is BODY


def test_a_late_delivery_tells_the_time_of_the_sale_rounded_down_in_utc() -> None:
    late = dated(BODY, accepted_ms=ACCEPTED_MS, now_ms=ACCEPTED_MS + 300_001)
    assert late == BODY.removesuffix(b"}") + b',"createdAt":"2027-01-15T08:00:00Z"}'


def test_the_order_of_the_guide_is_kept() -> None:
    body = b'{"externalCid":"x","status":"S","couponCodes":["A"],"revenueOriginId":"r","qualified":true}'
    late = dated(body, accepted_ms=ACCEPTED_MS, now_ms=ACCEPTED_MS + 10**9)
    assert late == (
        b'{"externalCid":"x","status":"S","createdAt":"2027-01-15T08:00:00Z",'
        b'"couponCodes":["A"],"revenueOriginId":"r","qualified":true}'
    )


def test_a_time_the_caller_gave_is_never_replaced() -> None:
    body = b'{"cid":"x","createdAt":"2020-01-01T00:00:00+02:00"}'
    assert dated(body, accepted_ms=ACCEPTED_MS, now_ms=ACCEPTED_MS + 10**9) is body


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_left_alone(body: bytes) -> None:
    assert dated(body, accepted_ms=0, now_ms=10**12) is body


def test_half_a_surrogate_pair_goes_out_as_it_came_in() -> None:
    late = dated(b'{"cid":"\\ud800"}', accepted_ms=ACCEPTED_MS, now_ms=ACCEPTED_MS + 10**9)
    assert late == b'{"cid":"\\ud800","createdAt":"2027-01-15T08:00:00Z"}'


@pytest.mark.parametrize("late_s", [0, 300, 10**6])
def test_always_dates_every_delivery_alike(late_s: int) -> None:
    now_ms = ACCEPTED_MS + late_s * 1000
    sent = dated(BODY, accepted_ms=ACCEPTED_MS, now_ms=now_ms, policy=CreatedAt.ALWAYS)
    assert sent == BODY.removesuffix(b"}") + b',"createdAt":"2027-01-15T08:00:00Z"}'


@pytest.mark.parametrize("late_s", [0, 301, 10**6])
def test_never_leaves_the_time_to_trackdesk(late_s: int) -> None:
    assert dated(BODY, accepted_ms=ACCEPTED_MS, now_ms=ACCEPTED_MS + late_s * 1000, policy=CreatedAt.NEVER) is BODY


@pytest.mark.parametrize("policy", list(CreatedAt))
def test_under_every_policy_the_callers_own_time_stays(policy: CreatedAt) -> None:
    body = b'{"cid":"x","createdAt":"2020-01-01T00:00:00+02:00"}'
    assert dated(body, accepted_ms=ACCEPTED_MS, now_ms=ACCEPTED_MS + 10**9, policy=policy) is body
