"""Enqueue e-commerce conversions for delivery to Trackdesk.

>>> from trackdesk_producer import Conversion, Producer
>>> producer = Producer("redis://localhost:6379/0", tenant="acme")
>>> sale = Conversion(
...     conversion_type_code="sale", cid="6f1c…", amount="100.50", currency="EUR", external_id="order-1001"
... )
>>> producer.enqueue(sale).status
<ReceiptStatus.ACCEPTED: 'accepted'>

The promise: at least once, and once at Trackdesk by externalId.
"""

from trackdesk_producer._flow import EnqueueItem
from trackdesk_producer.aio import AsyncProducer
from trackdesk_producer.client import Producer
from trackdesk_producer.contract.record import State
from trackdesk_producer.conversion.model import Conversion, CustomParams, parse_conversion, parse_query
from trackdesk_producer.conversion.names import ConversionStatus
from trackdesk_producer.errors import (
    ConversionInvalid,
    DurabilityNotMet,
    OptionInvalid,
    Problem,
    ProducerError,
    QueueFull,
    QueueUnavailable,
    RecordTooNew,
)
from trackdesk_producer.receipts import Cancellation, CancelStatus, Durability, JobStatus, Receipt, ReceiptStatus

__all__ = [
    "AsyncProducer",
    "CancelStatus",
    "Cancellation",
    "Conversion",
    "ConversionInvalid",
    "ConversionStatus",
    "CustomParams",
    "Durability",
    "DurabilityNotMet",
    "EnqueueItem",
    "JobStatus",
    "OptionInvalid",
    "Problem",
    "Producer",
    "ProducerError",
    "QueueFull",
    "QueueUnavailable",
    "Receipt",
    "ReceiptStatus",
    "RecordTooNew",
    "State",
    "parse_conversion",
    "parse_query",
]
