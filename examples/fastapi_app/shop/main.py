"""The shop: uvicorn shop.main:app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, PositiveInt
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from shop.jobs import Shop
from shop.models import DATABASE, Base, Order
from supervisor.client import AsyncClient

IN_STOCK = 10


class Wanted(BaseModel):
    """What is ordered."""

    article: str
    pieces: PositiveInt


class Shown(BaseModel):
    """An order as clients get it."""

    id: int
    receipt_job: int | None
    receipt: str | None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for all requests, made in the loop that serves them, and closed with it."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{DATABASE}", connect_args={"timeout": 20})
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncClient(timeout="10s", patience="1s") as client:
        app.state.shop = Shop(async_sessionmaker(engine), client)
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


def the_shop(request: Request) -> Shop:
    """What the lifespan has made."""
    shop: Shop = request.app.state.shop
    return shop


TheShop = Annotated[Shop, Depends(the_shop)]


@app.post("/orders", status_code=201)
async def place(wanted: Wanted, shop: TheShop) -> Shown:
    """Take an order; its receipt is enqueued if, and when, the order is committed."""
    async with shop.transaction() as transaction:
        order = Order(article=wanted.article, pieces=wanted.pieces)
        transaction.session.add(order)
        transaction.receipt_on_commit(order)
        await transaction.session.flush()
        take_from_stock(order)
    return shown(order)


@app.get("/orders/{order_id}")
async def show(order_id: int, shop: TheShop) -> Shown:
    """An order, with its receipt once it is there."""
    async with shop.sessions() as session:
        order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404)
    return shown(order)


@app.post("/enqueue-missing")
async def enqueue_missing(shop: TheShop) -> int:
    """Make good for orders without a job. Have a timer ask for it every few minutes, from this host only."""
    return await shop.enqueue_missing()


def take_from_stock(order: Order) -> None:
    """Raises where there is not enough: then the whole transaction is rolled back."""
    if order.pieces > IN_STOCK:
        raise HTTPException(409, f"{order.pieces} pieces of {order.article}: there are {IN_STOCK}")


def shown(order: Order) -> Shown:
    """An order as clients get it."""
    return Shown(id=order.id, receipt_job=order.receipt_job, receipt=order.receipt)
