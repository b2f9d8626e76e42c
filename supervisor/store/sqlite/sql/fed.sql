SELECT step.id, flow.id, flow.name, step.name, root.context
FROM json_each(?) AS wanted CROSS JOIN step ON step.id = wanted.value CROSS JOIN flow ON flow.id = step.flow
CROSS JOIN flow AS root ON root.id = flow.root
