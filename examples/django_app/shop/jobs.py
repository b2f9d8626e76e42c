"""What the shop has done in the background."""

import logging
from functools import cache, partial

from django.db import transaction

from shop.models import Order
from supervisor.client import Client
from supervisor.errors import JobsupError

logger = logging.getLogger(__name__)


@cache
def client() -> Client[int]:
    """One for the whole process: threads share it, and it notices a fork."""
    return Client(timeout="10s", patience="1s")


def receipt_on_commit(order: Order) -> None:
    """Enqueue the receipt of an order when the transaction that saves it has committed, and not before."""
    transaction.on_commit(partial(enqueue_receipt, order.pk))


def enqueue_receipt(order_id: int) -> bool:
    """Enqueue the receipt of an order that is saved; whether that is done.

    Where it cannot be, the order stands all the same: `manage.py enqueue_missing` makes good for it.
    """
    try:
        job_id = client().enqueue("receipts", {"order": order_id}, request_key=f"receipt-{order_id}")
    except JobsupError as error:
        logger.error("order %s is saved, its receipt is not enqueued: %s; %s", order_id, error, error.hint)
        return False
    Order.objects.filter(pk=order_id).update(receipt_job=job_id)
    return True
