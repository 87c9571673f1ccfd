"""Settings: patches, tenants of their own, and what is refused."""

from typing import Any

import pytest

from trackdesk_simulator import BusinessError, Outage, Profile, SimulatorConfig
from trackdesk_simulator.config import explain


def config(**settings: Any) -> SimulatorConfig:
    return SimulatorConfig.model_validate(settings)


def test_a_tenant_replaces_the_settings_it_names_and_keeps_the_others() -> None:
    settings = config(profile="all-500", latency_s=0.1, tenants={"sick": {"faults": {"hang": 1}}})
    assert settings.tenant("sick").faults.hang == 1
    assert settings.tenant("sick").profile is Profile.ALL_500
    assert settings.tenant("healthy").faults.hang == 0


def test_a_patch_merges_and_null_puts_the_default_back() -> None:
    first = config(profile="all-500", rate_limit={"per_s": 20}, tenants={"a": {"latency_s": 1}})
    second = first.patched({"rate_limit": {"retry_after": True}, "tenants": {"b": {"outage": "503"}}})
    assert second.rate_limit is not None
    assert (second.rate_limit.per_s, second.rate_limit.retry_after) == (20, True)
    assert second.tenant("a").latency_s == 1
    assert second.tenant("b").outage is Outage.UNAVAILABLE
    third = second.patched({"rate_limit": None, "profile": None, "tenants": {"a": None}})
    assert third.rate_limit is None
    assert third.profile is Profile.GATEWAY
    assert third.tenant("a").latency_s == 0
    assert first.tenant("b").outage is Outage.OFF


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"profil": "gateway"}, "profil: Extra inputs are not permitted"),
        ({"faults": {"hang": 2}}, "faults.hang: Input should be less than or equal to 1"),
        ({"faults": {"hang": 1, "error_rate": 1}}, "faults: the probabilities of the faults add up to more"),
        ({"tenants": {"sick": {"latency": 1}}}, "tenant sick: latency: Extra inputs are not permitted"),
        ({"tenants": {"Not A Label": {}}}, "tenants.Not A Label"),
        ({"rate_limit": {"per_s": 0}}, "rate_limit.per_s: Input should be greater than 0"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        config(**settings)
    message = explain(caught.value)
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["port", "seed", "max_rows"])
def test_settings_of_the_process_cannot_change_at_run_time(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot change"):
        config().patched({name: 77})


def test_codes_and_messages_can_be_replaced() -> None:
    settings = config(problems={"limit_reached": {"code": 8}, "source_expired": {"message": "too old"}})
    assert settings.answer_for(BusinessError.LIMIT_REACHED) == (8, "conversion count limit reached")
    assert settings.answer_for(BusinessError.SOURCE_EXPIRED) == (9, "too old")
