import sys; sys.path.insert(0,'/work/main')
from hypothesis import settings, HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test
import tests.model.test_lanes as t
import os
def test_it():
    run_state_machine_as_test(t.LanesMachine, settings=settings(max_examples=int(os.environ.get("N","100")), stateful_step_count=int(os.environ.get("S","40")), deadline=None, database=None, print_blob=False, phases=(Phase.generate,), suppress_health_check=list(HealthCheck)))
