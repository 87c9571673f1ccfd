"""``trackdesk enqueue``."""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from trackdesk_producer import EnqueueItem, Receipt, ReceiptStatus, parse_conversion
from trackdesk_producer.contract.record import State
from trackdesk_worker.cli.options import TENANT, json_option
from trackdesk_worker.cli.output import emit_json, warn
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.ops.importing.entries import decode_object, to_item
from trackdesk_worker.ops.importing.lines import MAX_LINE_BYTES
from trackdesk_worker.ops.timestamps import parse_moment
from trackdesk_worker.process import bootstrap

_FIELDS = {
    "conversion_type_code": ("--type", "Conversion type code, such as sale."),
    "cid": ("--cid", "Trackdesk's click id."),
    "external_cid": ("--external-cid", "Your own click id, instead of --cid."),
    "external_client_id": ("--external-client-id", "Your client's id, instead of --cid."),
    "amount": ("--amount", "Plain digits, such as 100.50."),
    "currency": ("--currency", "ISO 4217 code, such as EUR."),
    "external_id": ("--external-id", "The order's id: makes repeating safe."),
    "customer_id": ("--customer-id", "The customer's id."),
    **{f"adv_s{n}": (f"--adv-s{n}", f"Custom parameter advS{n}.") for n in range(1, 6)},
    "status": ("--status", "CONVERSION_STATUS_...; default: Trackdesk's."),
    "created_at": ("--created-at", "RFC 3339 time of the sale; default: its arrival."),
    "revenue_origin_id": ("--revenue-origin-id", "Id of the revenue origin."),
}


def _field_options(command: Any) -> Any:
    for name, (flag, text) in reversed(_FIELDS.items()):
        command = click.option(flag, name, metavar="TEXT", help=text)(command)
    return command


@click.command("enqueue")
@click.argument("source", required=False, type=click.Choice(["-"]), metavar="[-]")
@_field_options
@click.option("--coupon-code", "coupon_codes", multiple=True, metavar="TEXT", help="Coupon code; may be repeated.")
@click.option("--qualified/--not-qualified", default=None, help="Whether the conversion is qualified.")
@click.option("--not-before", metavar="TIME", help="RFC 3339 time before which it is not sent.")
@click.option("--tenant", type=TENANT, help="Default: TRACKDESK_TENANT.")
@json_option
def command(source: str | None, tenant: str | None, not_before: str | None, as_json: bool, **given: Any) -> int:
    """Enqueue one conversion, from options or as JSON on stdin.

    The JSON is the guide's POST body, and optionally tenant and not_before. Exit 1 on a conflict: the same
    externalId was accepted before with other content.
    """
    fields = {name: value for name, value in given.items() if value is not None and value != ()}
    due = None if not_before is None else _moment(not_before)
    if source == "-" or not (fields or sys.stdin.isatty()):
        if fields:
            raise click.UsageError("give the conversion as options or on stdin, not both")
        item = _from_stdin()
        item = EnqueueItem(item.conversion, tenant or item.tenant, due or item.not_before)
    elif fields:
        item = EnqueueItem(_from_options(fields), tenant, due)
    else:
        raise click.UsageError("nothing to enqueue: pass --type, --cid and the other options, or JSON on stdin")
    settings = load_settings()
    if item.tenant is None and settings.tenant is None:
        raise click.UsageError("no tenant is named: pass --tenant or set TRACKDESK_TENANT")
    with bootstrap.open_traced_producer(settings, notify=warn) as producer:
        receipt = producer.enqueue(item.conversion, tenant=item.tenant, not_before=item.not_before)
    _notify(receipt, as_json)
    return 0 if receipt.ok else 1


def _from_stdin() -> EnqueueItem:
    data = sys.stdin.buffer.read(MAX_LINE_BYTES + 1)
    if not data.strip():
        raise click.UsageError("nothing to enqueue: stdin is empty; pass --type, --cid and the other options, or JSON")
    if len(data) > MAX_LINE_BYTES:
        raise click.UsageError("stdin holds more than 64 KiB; `trackdesk import` takes files of many conversions")
    try:
        return to_item(decode_object(data.removeprefix(b"\xef\xbb\xbf")), parse_conversion)
    except ValueError as error:
        raise click.UsageError(f"the conversion on stdin: {error}") from error


def _from_options(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    body = dict(fields)
    params = {name: body.pop(name) for name in list(body) if name.startswith("adv_s")}
    if params:
        body["custom_params"] = params
    return body


def _moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise click.UsageError(f"--not-before: {error}") from error


def _notify(receipt: Receipt, as_json: bool) -> None:
    for warning in receipt.warnings:
        warn(f"warning: {warning}")
    if as_json:
        emit_json(
            {
                "status": receipt.status.value,
                "tenant": receipt.tenant,
                "external_id": receipt.external_id,
                "external_id_created": receipt.external_id_created,
                "job_id": receipt.job_id,
                "state": None if receipt.state is None else receipt.state.value,
                "warnings": list(receipt.warnings),
            }
        )
    else:
        state = (receipt.state or State.READY).value.replace("_", " ")
        click.echo(f"{receipt.status.value}: {receipt.external_id} of {receipt.tenant} (the sale is {state})")
    if receipt.external_id_created:
        warn("it came without an externalId, so one was created; only repeating with that one is safe")
    if receipt.status is ReceiptStatus.CONFLICT:
        warn("this externalId was accepted before with other content; this one was not stored")
