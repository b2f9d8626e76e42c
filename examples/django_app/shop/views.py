"""The pages of the shop."""

import json

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from shop import jobs
from shop.models import Order

IN_STOCK = 10


class OutOfStock(Exception):
    """More is ordered than there is."""


@csrf_exempt
@require_POST
def place(request: HttpRequest) -> HttpResponse:
    """Take an order; its receipt is enqueued if, and when, the order is committed."""
    wanted = json.loads(request.body)
    try:
        with transaction.atomic():
            order = Order.objects.create(article=wanted["article"], pieces=wanted["pieces"])
            jobs.receipt_on_commit(order)
            take_from_stock(order)
    except OutOfStock as error:
        return JsonResponse({"error": str(error)}, status=409)
    order.refresh_from_db()
    return JsonResponse(shown(order), status=201)


@require_GET
def show(request: HttpRequest, order_id: int) -> HttpResponse:
    """An order, with its receipt once it is there."""
    return JsonResponse(shown(get_object_or_404(Order, pk=order_id)))


def take_from_stock(order: Order) -> None:
    """Raises where there is not enough: then the whole transaction is rolled back."""
    if order.pieces > IN_STOCK:
        raise OutOfStock(f"{order.pieces} pieces of {order.article}: there are {IN_STOCK}")


def shown(order: Order) -> dict[str, object]:
    """An order as clients get it."""
    return {"id": order.pk, "receipt_job": order.receipt_job, "receipt": order.receipt}
