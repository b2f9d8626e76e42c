"""Enqueue receipts that nobody enqueued: of orders whose process was killed, or found no daemon, after the commit."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from shop.jobs import enqueue_receipt
from shop.models import Order


class Command(BaseCommand):
    """Run it every few minutes. The queue is unique by order: one that was enqueued after all stays the only one."""

    help = "Enqueue the receipts of saved orders that have no job."

    def handle(self, *args: Any, **options: Any) -> None:
        """Oldest first; stops at the first that cannot be enqueued."""
        missing = list(Order.objects.filter(receipt_job=None).order_by("pk").values_list("pk", flat=True))
        for done, order_id in enumerate(missing):
            if not enqueue_receipt(order_id):
                raise CommandError(f"{done} of {len(missing)} receipts enqueued")
        self.stdout.write(f"{len(missing)} receipts enqueued")
