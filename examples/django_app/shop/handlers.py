"""What runs in jobsupd's workers. Imported once, before they are forked: Django is set up, no connection is made."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.db import close_old_connections  # noqa: E402

from shop.models import Order  # noqa: E402
from supervisor.job import Job  # noqa: E402


def send_receipt(job: Job) -> object:
    """Write the receipt of an order. Running twice writes the same again."""
    close_old_connections()
    order = Order.objects.get(pk=job.payload["order"])
    order.receipt = f"{order.pieces} x {order.article}"
    order.save(update_fields=["receipt"])
    return {"order": order.pk}
