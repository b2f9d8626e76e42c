SELECT step.id, step.flow, step.kind, step.name, step.skipped, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, signal.at, NULL
FROM json_each(?) AS wanted CROSS JOIN step ON step.id = wanted.value CROSS JOIN signal ON signal.id = step.id
WHERE step.kind = 2
