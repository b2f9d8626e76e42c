"""A shop on FastAPI that sends receipts in the background."""
