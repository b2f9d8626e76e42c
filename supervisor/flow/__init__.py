"""Flows: jobs that come after others. Chains, graphs and batches are built here, and checked; nothing is sent."""

from supervisor.flow.build import Flow, Step, step

__all__ = ["Flow", "Step", "step"]
