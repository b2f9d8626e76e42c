"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    """An order, and the job that sends its receipt: null until it is known to be enqueued."""

    article = models.CharField(max_length=200)
    pieces = models.PositiveIntegerField()
    receipt_job = models.BigIntegerField(null=True)
    receipt = models.TextField(null=True)
