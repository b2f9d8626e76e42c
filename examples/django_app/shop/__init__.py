"""A shop on Django that sends receipts in the background."""
