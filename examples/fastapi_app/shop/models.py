"""What the shop keeps, on SQLite."""

from pathlib import Path

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

DATABASE = Path(__file__).resolve().parent.parent / "shop.sqlite3"


class Base(DeclarativeBase):
    """All tables."""


class Order(Base):
    """An order, and the job that sends its receipt: null until it is known to be enqueued."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str]
    pieces: Mapped[int]
    receipt_job: Mapped[int | None]
    receipt: Mapped[str | None]
