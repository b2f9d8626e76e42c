"""What runs in jobsupd's workers. Imported once, before they are forked: no connection is made here."""

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from shop.models import DATABASE, Order
from supervisor.job import Job

engine = create_engine(f"sqlite:///{DATABASE}", connect_args={"timeout": 20})


def send_receipt(job: Job) -> object:
    """Write the receipt of an order. Running twice writes the same again."""
    with Session(engine) as session, session.begin():
        order = session.get_one(Order, job.payload["order"])
        order.receipt = f"{order.pieces} x {order.article}"
    return {"order": job.payload["order"]}
