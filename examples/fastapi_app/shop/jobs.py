"""What the shop has done in the background, and the transactions that it belongs to."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shop.models import Order
from supervisor.client import AsyncClient
from supervisor.errors import JobsupError

logger = logging.getLogger("uvicorn.error")


class Transaction:
    """A database session, and the receipts to be sent once it is committed."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self.orders: list[Order] = []

    def receipt_on_commit(self, order: Order) -> None:
        """Enqueue the receipt of an order when this transaction has committed, and not before."""
        self.orders.append(order)


class Shop:
    """The database and the client of jobsup: both for as long as the application runs."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], client: AsyncClient) -> None:
        self.sessions = sessions
        self.client = client

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """What is raised within rolls back, and nothing is enqueued. Left in good order, it commits, then enqueues."""
        async with self.sessions(expire_on_commit=False) as session:
            transaction = Transaction(session)
            async with session.begin():
                yield transaction
        for order in transaction.orders:
            order.receipt_job = await self.enqueue_receipt(order.id)

    async def enqueue_receipt(self, order_id: int) -> int | None:
        """Enqueue the receipt of an order that is saved; the job's id.

        Where it cannot be enqueued, None: the order stands all the same, and `enqueue_missing` makes good for it.
        """
        try:
            job_id = await self.client.enqueue("receipts", {"order": order_id}, request_key=f"receipt-{order_id}")
        except JobsupError as error:
            logger.error("order %s is saved, its receipt is not enqueued: %s; %s", order_id, error, error.hint)
            return None
        async with self.sessions.begin() as session:
            await session.execute(update(Order).where(Order.id == order_id).values(receipt_job=job_id))
        return job_id

    async def enqueue_missing(self) -> int:
        """Enqueue receipts that nobody enqueued, as a process was killed or found no daemon after the commit; how many.

        The queue is unique by order: one that was enqueued after all stays the only one.
        """
        async with self.sessions() as session:
            missing = (await session.scalars(select(Order.id).where(Order.receipt_job.is_(None)))).all()
        return len([order_id for order_id in missing if await self.enqueue_receipt(order_id) is not None])
